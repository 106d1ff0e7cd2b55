"""FashionIQ (Wu et al., CVPR 2021, arXiv 1905.12794): three categories, each a benchmark, in the authors' layout.

The gallery is the category's whole split. An older one, the union of the references and targets of its queries ("VAL
split"), is about half as large and inflates every score: it has names of its own (`fashioniq-union-…`).

A query has two captions. How they are joined is the protocol's `caption_join`, by default both orders averaged
(SEARLE, LinCIR); the reference stays in the ranking.
"""

from pathlib import Path
from typing import Final

from mmret.data import records
from mmret.data.benchmark import Query
from mmret.data.images import FileImages, images_by_stem
from mmret.data.protocol import Protocol
from mmret.data.published import Annotations, Release
from mmret.errors import InputError

# Category → split → queries, images of the split, references and targets of its queries.
_COUNTS: Final = {
    "dress": {"val": (2017, 3817, 2628), "train": (5985, 11452, 7757)},
    "shirt": {"val": (2038, 6346, 3089), "train": (5988, 19036, 8988)},
    "toptee": {"val": (1961, 5373, 2902), "train": (6027, 16121, 8695)},
}


def _files(root: Path, category: str, split: str) -> tuple[Path, ...]:
    names = root / "image_splits" / f"split.{category}.{split}.json"
    return root / "captions" / f"cap.{category}.{split}.json", names


def _read(root: Path, category: str, split: str, protocol: Protocol) -> Annotations:
    captions, image_split = _files(root, category, split)
    pairs = enumerate(records.read_records(captions))
    queries = tuple(_query(record, row, where) for row, (where, record) in pairs)
    names = records.strings(records.read_json(image_split), "the list of images", str(image_split))
    if len(set(names)) < len(names):
        raise InputError(f"{image_split} lists an image twice; fetch the file again.")
    if protocol.gallery == "union":
        names = tuple(
            dict.fromkeys(name for query in queries for name in (str(query.reference), *query.targets))
        )
    there = images_by_stem(root / "images")  # published as .jpg by some and as .png by others
    paths = {name: there.get(name, root / "images" / f"{name}.jpg") for name in names}
    return Annotations(queries, names, FileImages(paths))


def _query(record: records.Record, row: int, where: str) -> Query:
    return Query(
        id=str(row),
        reference=records.field(record, "candidate", str, where),
        texts=records.strings(record.get("captions"), "captions", where),
        targets={records.field(record, "target", str, where): 1},
    )


def _release(category: str, union: bool) -> Release:
    counts = {
        split: {"queries": queries, "gallery entries": both if union else whole}
        for split, (queries, whole, both) in _COUNTS[category].items()
    }
    return Release(
        name=f"fashioniq-union-{category}" if union else f"fashioniq-{category}",
        folder="fashioniq",
        version="1",
        counts=counts,
        protocol=Protocol(
            caption_join="both-orders",
            preprocess="target-pad-1.25",
            query_text_field="captions",
            gallery="union" if union else "split",
        ),
        metrics=("success@10", "success@50"),
        files=lambda root, split: _files(root, category, split),
        read=lambda root, split, protocol: _read(root, category, split, protocol),
        text_fields=("captions",),
        averages=(("success@10", "success@50"),),
    )


FASHIONIQ: Final = tuple(_release(category, union) for union in (False, True) for category in _COUNTS)
"""`fashioniq-dress`, `-shirt`, `-toptee`, and the same as `fashioniq-union-…`; splits `val` and `train`."""
