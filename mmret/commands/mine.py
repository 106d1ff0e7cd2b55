"""`mmret mine`: hard negatives of a training set of queries and pages."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmret.errors import InputError

OWN = ""
"""For `--bm25`: the texts that the set itself has."""


def build_parser() -> argparse.ArgumentParser:
    """The options of `mmret mine`."""
    parser = argparse.ArgumentParser(
        prog="mmret mine",
        description="Mine hard negatives for QueryPagesDataModule: pages that a backbone, or BM25, ranks high for a "
        "query and that are not known to answer it. Pages are embedded into a store, where a killed run goes on.",
    )
    parser.add_argument("--source", required=True, help="the training set, as QueryPagesDataModule takes it")
    parser.add_argument("--split", default="train", help="of the source (%(default)s)")
    parser.add_argument("--root", help="folder of a published set")
    parser.add_argument("--out", type=Path, required=True, help="the .jsonl file to write")
    by = parser.add_mutually_exclusive_group(required=True)
    by.add_argument("--backbone", help="name or path of what embeds pages and queries")
    by.add_argument("--bm25", nargs="?", const=OWN, metavar="TEXTS",
                    help="by words: of a file that `mmret pages text` wrote, or of the set's own texts")  # fmt: skip
    _add_rules(parser)
    parser.add_argument(
        "--max-pages", type=int, help="search only so many: the queries' own, and others at random"
    )
    parser.add_argument("--store", type=Path, help="folder for the pages' vectors (OUT.store)")
    parser.add_argument("--preprocess", help="of pages, in place of the backbone's own")
    parser.add_argument("--precision", default="fp32", help="fp32, bf16 or fp16 (%(default)s)")
    parser.add_argument("--device", default="auto", help="of the backbone (%(default)s)")
    parser.add_argument("--batch-size", type=int, help="pages at a time (the backbone's own)")
    parser.add_argument("--workers", type=int, help="processes that read pages ahead")
    return parser


def _add_rules(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--depth", type=int, default=100, help="pages to look at (%(default)s)")
    parser.add_argument("--negatives", type=int, default=20, help="pages to keep, at most (%(default)s)")
    parser.add_argument(
        "--skip-top", type=int, default=0, metavar="K", help="pass over the first K pages (%(default)s)"
    )
    parser.add_argument("--positive-threshold", type=float, metavar="SHARE",
                        help="keep pages that score at most so much of the positive's score (.95; none with --bm25); "
                        "0: no such rule")  # fmt: skip
    parser.add_argument(
        "--positive-margin", type=float, metavar="M", help="… at most the positive's score less M"
    )
    parser.add_argument("--max-score", type=float, help="… at most this score")


def main(argv: Sequence[str] | None = None) -> int:
    """Mine and write the file."""
    options = build_parser().parse_args(argv)
    from mmret.data.page_sources import open_query_pages
    from mmret.hard_negatives import Mining

    mining = Mining(
        options.depth,
        options.negatives,
        options.skip_top,
        _threshold(options),
        options.positive_margin,
        options.max_score,
    )
    data = open_query_pages(options.source, options.split, options.root)
    mined = (_by_vectors if options.bm25 is None else _by_words)(options, data, mining)
    print(f"{mined}: {options.out}")
    return 0


def _threshold(options: argparse.Namespace) -> float | None:
    """The rule's share: .95 for vectors unless given, none for words (whose scores have no such scale) or for 0."""
    if options.positive_threshold is None:
        return 0.95 if options.bm25 is None else None
    return options.positive_threshold or None


def _by_vectors(options: argparse.Namespace, data: Any, mining: Any) -> Any:
    from mmret.backbones import load_backbone
    from mmret.embedding import open_store
    from mmret.hard_negatives import mine_by_vectors

    settings = {name: getattr(options, name) for name in ("preprocess", "precision", "device")}
    backbone = load_backbone(options.backbone, **settings)
    return mine_by_vectors(
        backbone,
        data,
        options.out,
        mining,
        store=open_store(options.store or f"{options.out}.store", backbone),
        max_pages=options.max_pages,
        batch_size=options.batch_size,
        workers=options.workers,
        made_by={"split": options.split},
    )


def _by_words(options: argparse.Namespace, data: Any, mining: Any) -> Any:
    from mmret.data.text_sources import TextFile
    from mmret.hard_negatives import ask_words, some_pages, write_mined
    from mmret.text_search.bm25 import BM25

    texts = data.texts if options.bm25 == OWN else TextFile(options.bm25)
    if texts is None:
        raise InputError(
            f"{data.name} has no texts of its own; give a file of them (`mmret pages text` writes one)."
        )
    bm25, ids = BM25(), some_pages(data, options.max_pages)
    ask = ask_words(texts, ids, options.bm25 or data.name, bm25)
    made_by = {"split": options.split, "bm25": bm25.describe(), "texts": options.bm25 or data.name}
    return write_mined(options.out, ask, data, mining, len(ids), made_by)
