"""CIRCO (Baldrati et al., ICCV 2023, arXiv 2303.15247) over COCO's unlabelled images, in the authors' layout.

Conventions of the official evaluation: mAP@K divides by min(K, ground truths), all ground truths counting; Recall@K
looks at `target_img_id` alone, which carries the better grade here. The reference stays in the ranking. Methods on
CLIP ask with `relative_caption` alone; `shared_concept` in the query makes another task of it.
"""

from pathlib import Path
from typing import Final

from mmret.data import records
from mmret.data.benchmark import Query
from mmret.data.images import FileImages
from mmret.data.protocol import Protocol
from mmret.data.published import Annotations, Release
from mmret.errors import InputError

ASPECTS: Final = "semantic_aspects"
"""The attribute of val queries by which the official evaluation groups mAP@10."""

_COCO: Final = Path("COCO2017_unlabeled")


def _files(root: Path, split: str) -> tuple[Path, ...]:
    return (
        root / "annotations" / f"{split}.json",
        root / _COCO / "annotations" / "image_info_unlabeled2017.json",
    )


def _read(root: Path, split: str, protocol: Protocol) -> Annotations:
    annotations, image_list = _files(root, split)
    text_fields = protocol.query_text_field.split("+")
    queries = tuple(_query(item, text_fields, where) for where, item in records.read_records(annotations))
    names = _image_names(image_list)
    # Without the list (scoring needs no images) the file names follow from the ids of the annotations.
    named = {name for query in queries for name in (str(query.reference), *query.targets)}
    files = names or {name: f"{int(name):012d}.jpg" for name in sorted(named)}
    folder = root / _COCO / "unlabeled2017"
    return Annotations(
        queries, tuple(names), FileImages({name: folder / file for name, file in files.items()})
    )


def _image_names(path: Path) -> dict[str, str]:
    """Image id → file name of the whole gallery; nothing where COCO's list is not there."""
    if not path.is_file():
        return {}
    record = records.read_json(path)
    if not isinstance(record, dict):
        raise InputError(f"{path} holds a {type(record).__name__}, not COCO's object with a list of images.")
    items = records.field(record, "images", list, str(path))
    return {str(records.field(item, "id", int, str(path))): item["file_name"] for item in items}


def _query(record: records.Record, text_fields: list[str], where: str) -> Query:
    targets = {str(image): 1 for image in record.get("gt_img_ids", [])}
    if "target_img_id" in record:
        targets[str(records.field(record, "target_img_id", int, where))] = 2
    aspects = records.strings(record.get(ASPECTS, []), ASPECTS, where)
    return Query(
        id=str(records.field(record, "id", int, where)),
        reference=str(records.field(record, "reference_img_id", int, where)),
        texts=tuple(records.field(record, name, str, where) for name in text_fields),
        targets=targets,
        attributes={ASPECTS: aspects} if aspects else {},
    )


CIRCO: Final = Release(
    name="circo",
    folder="circo",
    version="1",
    counts={
        "val": {"queries": 220, "gallery entries": 123_403},
        "test": {"queries": 800, "gallery entries": 123_403},
    },
    protocol=Protocol(preprocess="target-pad-1.25", query_text_field="relative_caption"),
    metrics=(
        *("map@5 (÷ min)", "map@10 (÷ min)", "map@25 (÷ min)", "map@50 (÷ min)"),
        *("success_target@5", "success_target@10", "success_target@25", "success_target@50"),
    ),
    files=_files,
    read=_read,
    text_fields=("relative_caption", "shared_concept", "shared_concept+relative_caption"),
)
"""Split `val`, and `test`, whose ground truth only the server has."""
