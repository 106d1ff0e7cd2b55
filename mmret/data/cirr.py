"""CIRR (Liu et al., ICCV 2021, arXiv 2108.04024), release rc2: annotations and images in the authors' layouts.

The conventions are those of the evaluation server: the reference leaves the ranking, and Recall_subset ranks the six
members of the query's image set without the reference. The ground truth is `target_hard`; that of test1 is not
public.
"""

from pathlib import Path
from typing import Final

from mmret.data import records
from mmret.data.benchmark import Query
from mmret.data.images import FileImages
from mmret.data.protocol import Protocol
from mmret.data.published import Annotations, Release, first_folder
from mmret.errors import InputError


def _folder(root: Path) -> Path:
    """Where `captions` and `image_splits` lie: `root/cirr` beside the images (SEARLE, CIReVL), or the root itself."""
    return root / "cirr" if (root / "cirr" / "captions").is_dir() else root


def _files(root: Path, split: str) -> tuple[Path, ...]:
    folder = _folder(root)
    return folder / "captions" / f"cap.rc2.{split}.json", folder / "image_splits" / f"split.rc2.{split}.json"


def _read(root: Path, split: str, protocol: Protocol) -> Annotations:
    captions, image_split = _files(root, split)
    paths = records.read_json(image_split)
    if not isinstance(paths, dict):
        raise InputError(f"{image_split} holds a {type(paths).__name__}, not an object of names and paths.")
    images = first_folder(_folder(root) / "img_raw", root)
    return Annotations(
        queries=tuple(_query(record, where) for where, record in records.read_records(captions)),
        gallery=tuple(paths),
        images=FileImages({name: images / path for name, path in paths.items()}),
    )


def _query(record: records.Record, where: str) -> Query:
    reference = records.field(record, "reference", str, where)
    image_set = records.field(record, "img_set", dict, where)
    members = records.strings(image_set.get("members"), "members", where)
    target = records.field(record, "target_hard", str, where) if "target_hard" in record else None
    return Query(
        id=str(records.field(record, "pairid", int, where)),
        reference=reference,
        texts=(records.field(record, "caption", str, where),),
        targets={} if target is None else {target: 1},
        subset=tuple(name for name in members if name != reference),
    )


CIRR: Final = Release(
    name="cirr",
    folder="cirr",
    version="rc2",
    counts={
        "val": {"queries": 4181, "gallery entries": 2297},
        "test1": {"queries": 4148, "gallery entries": 2315},
    },
    protocol=Protocol(remove_reference=True, preprocess="target-pad-1.25", query_text_field="caption"),
    metrics=(
        *("success@1", "success@5", "success@10", "success@50"),
        *("success_subset@1", "success_subset@2", "success_subset@3"),
    ),
    files=_files,
    read=_read,
    text_fields=("caption",),
    averages=(("success@5", "success_subset@1"),),
)
"""Split `val`, and `test1`, whose ground truth only the server has."""
