"""`mmret oti` and `mmret phrases`: what SEARLE needs before φ can be distilled."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmret.errors import InputError

if TYPE_CHECKING:
    from mmret.data.images import ImageSource
    from mmret.inversion import OTI

_ABOUT = re.compile(r"^ +(\w+): (.+)$", re.MULTILINE)
"""An attribute in a docstring, on one line."""


def build_oti_parser() -> argparse.ArgumentParser:
    """The options of `mmret oti`; those of the method have OTI's own names, defaults and docstring."""
    parser = argparse.ArgumentParser(
        prog="mmret oti",
        description="Find the pseudo-word of each image by optimisation. A killed run goes on where it stopped.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", metavar="SOURCE", help="miniature or folder:PATH: images to train on")
    source.add_argument("--benchmark", metavar="NAME", help="the reference images of a benchmark instead")
    parser.add_argument("--split", default="test", help="of the benchmark (%(default)s)")
    parser.add_argument("--root", help="folder of the benchmark's data")
    parser.add_argument("--count", type=int, help="how many images (the miniature world needs it)")
    parser.add_argument("--backbone", required=True, help="name or path")
    parser.add_argument("--preprocess", help="another than the benchmark's, or than the backbone's own")
    parser.add_argument("--phrases", help="concept → phrases: miniature, or a JSON file")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file of the words")
    parser.add_argument("--batch-size", type=int, default=32, help="images side by side (%(default)s)")
    parser.add_argument("--device", default="auto", help="(%(default)s)")
    method = parser.add_argument_group("OTI")
    for name, kind, default, about in _settings():
        option = f"--{name.replace('_', '-')}"
        method.add_argument(option, type=kind, default=default, help=f"{about} (%(default)s)")
    return parser


def _settings() -> list[tuple[str, Any, Any, str]]:
    """OTI's fields that are single numbers: name, type, default, and what the docstring says of them."""
    from mmret.inversion import OTI

    about = dict(_ABOUT.findall(OTI.__doc__ or ""))
    numbers = [field for field in fields(OTI) if field.name != "templates"]
    return [(each.name, each.type, each.default, about[each.name].rstrip(".")) for each in numbers]


def oti(argv: Sequence[str] | None = None) -> int:
    """Run `mmret oti`."""
    options = build_oti_parser().parse_args(argv)
    from mmret.backbones import load_backbone
    from mmret.inversion import ConceptPhrases, invert_images

    method = _method(options)
    images, ids, preprocess = _images(options)
    backbone = load_backbone(options.backbone, preprocess=preprocess, device=options.device)
    phrases = ConceptPhrases.read(options.phrases) if options.phrases else None
    words = invert_images(
        backbone, images, options.out, ids, oti=method, phrases=phrases, batch_size=options.batch_size
    )
    print(f"{len(words):,} pseudo-words in {options.out}")
    return 0


def _method(options: argparse.Namespace) -> "OTI":
    from mmret.inversion import OTI

    return OTI(**{name: getattr(options, name) for name, *_ in _settings()})


def _images(options: argparse.Namespace) -> tuple["ImageSource", Sequence[str], str | None]:
    """The source, the ids to invert, and their preprocessing."""
    if options.images is not None:
        from mmret.data.image_sources import open_training_images

        images = open_training_images(options.images, options.count)
        return images, images.ids, options.preprocess
    from mmret.data import load_benchmark

    benchmark = load_benchmark(options.benchmark, options.split, options.root)
    references = dict.fromkeys(query.reference for query in benchmark.queries if query.reference is not None)
    ids = list(references)[: options.count]
    return benchmark.images, ids, options.preprocess or benchmark.protocol.preprocess


def build_phrases_parser() -> argparse.ArgumentParser:
    """The options of `mmret phrases`."""
    parser = argparse.ArgumentParser(
        prog="mmret phrases",
        description="Write phrases about concepts with a causal language model, as JSON: concept → phrases. "
        "A killed run goes on where it stopped.",
    )
    parser.add_argument("--concepts", type=Path, required=True, help="text file, one concept a line")
    parser.add_argument("--model", required=True, help="folder or hub name of a causal language model")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--number", type=int, default=256, help="phrases a concept (%(default)s)")
    parser.add_argument("--temperature", type=float, default=0.5, help="(%(default)s)")
    parser.add_argument("--max-length", type=int, default=35, help="tokens of a phrase (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument("--device", default="auto", help="(%(default)s)")
    return parser


def phrases(argv: Sequence[str] | None = None) -> int:
    """Run `mmret phrases`."""
    options = build_phrases_parser().parse_args(argv)
    import torch

    from mmret.backbones.registry import pick_device
    from mmret.data.records import read_text
    from mmret.inversion.generate import PhraseWriter, write_phrases

    concepts = [line.strip() for line in read_text(options.concepts).split("\n") if line.strip()]
    if options.number < 1:
        raise InputError(f"--number is {options.number}; a concept needs at least one phrase.")
    writer = PhraseWriter(
        options.model,
        pick_device(options.device),
        temperature=options.temperature,
        max_length=options.max_length,
    )
    torch.manual_seed(options.seed)
    written = write_phrases(writer, concepts, options.number, options.out)
    print(f"phrases of {len(written):,} concepts in {options.out}")
    return 0
