"""`mmret triplets`: text triplets by rule from a file of captions."""

import argparse
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path


def build_parser() -> argparse.ArgumentParser:
    """The options of `mmret triplets`."""
    parser = argparse.ArgumentParser(
        prog="mmret triplets",
        description="Make text triplets (reference caption, condition, target caption) by rule: keywords are "
        "replaced by others of the corpus at a chosen similarity, added, removed, counted. A killed run goes on where "
        "it stopped.",
    )
    parser.add_argument(
        "captions", help=".txt (one a line), .jsonl or .json with caption or captions; or miniature"
    )
    parser.add_argument("--out", type=Path, required=True, help="a .jsonl file; statistics go beside it")
    parser.add_argument("--backbone", required=True, help="name or path, for the similarity of words")
    parser.add_argument("--band", type=float, nargs=2, default=(0.5, 0.7), metavar=("LOW", "HIGH"),
                        help="cosines between which a substitute lies (%(default)s)")  # fmt: skip
    parser.add_argument("--number", type=int, help="stop after so many triplets (one for each caption)")
    parser.add_argument("--templates", type=Path, help="phrasings by kind, a YAML file in place of ours")
    parser.add_argument("--least", type=int, default=2, help="phrases that must hold a word (%(default)s)")
    parser.add_argument(
        "--count", type=int, default=20_000, help="captions of the miniature world (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of all draws (%(default)s)")
    parser.add_argument("--device", default="auto", help="of the backbone (%(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Make the triplets; print the statistics and a sample."""
    options = build_parser().parse_args(argv)
    from mmret.backbones import load_backbone
    from mmret.triplet_generation import generate_triplets, read_vocabulary
    from mmret.triplet_generation.edits import TEMPLATES, Templates

    source = options.templates or TEMPLATES
    templates, band = Templates(source), tuple(options.band)
    backbone = load_backbone(options.backbone, device=options.device)
    vocabulary = read_vocabulary(_captions(options), backbone, band, least=options.least)
    found = (
        f"{kind}s {len(vocabulary.substitutes[kind]):,} of {len(known):,}"
        for kind, known in vocabulary.counts.items()
    )
    print(f"words with substitutes: {', '.join(found)}")
    settings = {
        "captions": options.captions,
        "backbone": backbone.fingerprint(),
        "band": band,
        "least": options.least,
        "templates": hashlib.sha256(source.read_bytes()).hexdigest(),
    }
    done = generate_triplets(
        _captions(options), vocabulary, options.out,
        templates=templates, number=options.number, seed=options.seed, settings=settings,
    )  # fmt: skip
    print(done)
    for item in done.sample:
        print(f"  {item['reference_caption']}\n    {item['conditioning_caption']} → {item['target_caption']}")
    print(f"triplets written to {options.out}")
    return 0


def _captions(options: argparse.Namespace) -> Iterator[str]:
    if options.captions == "miniature":
        from mmret.data.miniature import training_captions

        return iter(training_captions(options.count))
    from mmret.triplet_generation.captions import stream_captions

    return stream_captions(options.captions)
