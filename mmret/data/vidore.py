"""ViDoRe v1, v2 and v3, SlideVQA and its relatives: retrieval of pages, in three tables or in rows.

Folders have the names of the hub's repositories below `vidore/`. Sizes of ViDoRe are those of the descriptive
statistics in mteb 2.26.24 (queries of all languages together). Those of SlideVQA-open are of DSE's paper, which has no
public release: it is SlideVQA less what could not be fetched any more. A set of one's own in the same layout takes its
place, or SlideVQA as its authors publish it now: 2,215 questions over 2,619 decks of 20 slides.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from mmret.data.beir import folder_tables, read_tables, table_files
from mmret.data.protocol import Protocol, page_protocol
from mmret.data.published import Annotations, Release
from mmret.data.slide_rows import read_split

_NDCG_5: Final = ("ndcg@5", "ndcg@10", "recall@5", "recall@10")
_NDCG_10: Final = ("ndcg@10", "ndcg@5", "recall@5", "recall@10")
_SLIDES: Final = ("ndcg@10", "recall@10")
_TABLES: Final = ("corpus", "queries", "qrels")

_V1: Final = {
    "arxivqa": ("arxivqa_test_subsampled", 500, 500),
    "docvqa": ("docvqa_test_subsampled", 451, 500),
    "infovqa": ("infovqa_test_subsampled", 494, 500),
    "tabfquad": ("tabfquad_test_subsampled", 280, 70),
    "tatdqa": ("tatdqa_test", 1646, 277),
    "shiftproject": ("shiftproject_test", 100, 1000),
    "artificial-intelligence": ("syntheticDocQA_artificial_intelligence_test", 100, 968),
    "energy": ("syntheticDocQA_energy_test", 100, 977),
    "government-reports": ("syntheticDocQA_government_reports_test", 100, 972),
    "healthcare-industry": ("syntheticDocQA_healthcare_industry_test", 100, 965),
}
_V2: Final = {
    "esg-reports": ("esg_reports_v2", 4 * 57, 1538),
    "biomedical-lectures": ("biomedical_lectures_v2", 4 * 160, 1016),
    "economics-reports": ("economics_reports_v2", 4 * 58, 452),
    "esg-reports-human": ("esg_reports_human_labeled_v2", 52, 1538),
}
_V3: Final = {
    "finance-en": ("vidore_v3_finance_en", 6 * 309, 2942),
    "finance-fr": ("vidore_v3_finance_fr", 6 * 320, 2384),
    "industrial": ("vidore_v3_industrial", 6 * 283, 5244),
    "pharmaceuticals": ("vidore_v3_pharmaceuticals", 6 * 364, 2313),
    "computer-science": ("vidore_v3_computer_science", 6 * 215, 1360),
    "hr": ("vidore_v3_hr", 6 * 318, 1110),
    "energy": ("vidore_v3_energy", 6 * 308, 2225),
    "physics": ("vidore_v3_physics", 6 * 302, 1674),
}
"""The public ones; two more are kept by the benchmark's authors."""


def _read(root: Path, split: str, protocol: Protocol) -> Annotations:
    return read_tables(folder_tables(root), split, root)


def _files(root: Path, split: str) -> tuple[Path, ...]:
    tables = folder_tables(root)
    names = ("rows",) if tables("corpus", split) is None and tables("rows", split) is not None else _TABLES
    return table_files(tables, names, root, split)


def _release(name: str, folder: str, counts: Mapping[str, int], metrics: tuple[str, ...]) -> Release:
    return Release(
        name=name,
        folder=folder,
        version="1",
        counts={"test": counts},
        protocol=page_protocol(),
        metrics=metrics,
        files=_files,
        read=_read,
        text_fields=("query",),
        other_folders=(f"{folder}_beir",),  # a set of v1 as three tables, where `folder` has its rows
    )


def _slide_files(root: Path, split: str) -> tuple[Path, ...]:
    return table_files(folder_tables(root), ("data",), root, split)


def _read_slides(root: Path, split: str, protocol: Protocol) -> Annotations:
    return read_split(root, split)


def _counts(queries: int, pages: int) -> dict[str, int]:
    return {"queries": queries, "gallery entries": pages}


def _family(
    version: str, sets: Mapping[str, tuple[str, int, int]], metrics: tuple[str, ...]
) -> tuple[Release, ...]:
    make = partial(_release, metrics=metrics)
    return tuple(
        make(f"vidore-{version}-{name}", f"vidore/{folder}", _counts(queries, pages))
        for name, (folder, queries, pages) in sets.items()
    )


VIDORE: Final = (
    *_family("v1", _V1, _NDCG_5),
    *_family("v2", _V2, _NDCG_5),
    *_family("v3", _V3, _NDCG_10),
)

SLIDEVQA: Final = (
    replace(
        _release("slidevqa", "slidevqa", _counts(2215, 2619 * 20), _SLIDES),
        files=_slide_files,
        read=_read_slides,
    ),
    _release("slidevqa-open", "slidevqa-open", _counts(2136, 50_714), _SLIDES),
    _release("visrag-slidevqa", "visrag-slidevqa", _counts(556, 1284), _SLIDES),
)
