"""GeneCIS (Vaze et al., CVPR 2023, arXiv 2306.07969): four tasks, each query with a gallery of its own.

A query ranks its target and the distractors of its record (14, or 9 for focus-attribute), and no other image. The
object tasks show images of COCO val2017. The attribute tasks show crops of Visual Genome's images, enlarged to the
left and above by .7 of the box and padded with black to a square.

To the letter: what a record lists twice takes two places of its pool (two records repeat the target among the
distractors). The official loader puts the target first, where a stable sort would let it win every tie; here it
loses them (`tie_break` "target-last").
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from mmret.data import records
from mmret.data.benchmark import Query
from mmret.data.images import FileImages, images_by_stem
from mmret.data.protocol import Protocol
from mmret.data.published import Annotations, Release, first_folder
from mmret.errors import InputError

DILATION: Final = 0.7
"""Share of the box's width and height by which a crop reaches further to the left and to the top."""

# Task → queries, gallery entries over all pools (copies within a pool among them). Counted on the published files.
_COUNTS: Final = {
    "focus-attribute": (2000, 14_239),
    "change-attribute": (2112, 16_953),
    "focus-object": (1960, 2192),
    "change-object": (1960, 2735),
}
_VISUAL_GENOME: Final = ("Visual_Genome/VG_All", "VG_All", "VG_100K", "VG_100K_2", "Visual_Genome/VG_100K",
                         "Visual_Genome/VG_100K_2")  # fmt: skip
_COCO: Final = ("coco2017/val2017", "val2017")

Box = tuple[float, float, float, float]


class CroppedImages(FileImages):
    """Crops by id: the file of each, and its box (left, top, width, height) in pixels."""

    def __init__(self, paths: Mapping[str, Path], boxes: Mapping[str, Box]) -> None:
        super().__init__(paths)
        self.boxes = boxes

    def read(self, id: str) -> Image.Image:
        """Return the square crop, RGB; raises `InputError`."""
        return pad_to_square(crop_dilated(super().read(id), self.boxes[id]))


def crop_dilated(image: Image.Image, box: Box, dilation: float = DILATION) -> Image.Image:
    """The official crop of a box: left and top edges move out, and the size follows from where they end up.

    Right and bottom stay where they are, unless the left or top edge was stopped by the border: then they move by
    what is left of the dilation.
    """
    x, y, width, height = box
    left, top = max(0.0, x - dilation * width), max(0.0, y - dilation * height)
    right = min(float(image.width), left + (1 + dilation) * width)
    bottom = min(float(image.height), top + (1 + dilation) * height)
    return image.crop((left, top, right, bottom))  # Pillow rounds, as it did for the authors


def pad_to_square(image: Image.Image) -> Image.Image:
    """The image in the middle of a black square of its longer side."""
    side = max(image.size)
    square = Image.new("RGB", (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def _files(root: Path, task: str) -> tuple[Path, ...]:
    """The task's file; the attribute tasks were first published as pickles, which are not read."""
    name, folder = task.replace("-", "_"), root / "genecis" if (root / "genecis").is_dir() else root
    plain, converted = folder / f"{name}.json", folder / f"{name}.from_pkl.json"
    return (converted if converted.is_file() and not plain.is_file() else plain,)


@dataclass(frozen=True)
class _Item:
    """An image of a record: its id, the stem of its file, and its box if it is a crop."""

    id: str
    stem: str
    box: Box | None


def _read(root: Path, task: str) -> Annotations:
    (path,) = _files(root, task)
    items: dict[str, _Item] = {}
    copies: dict[str, str] = {}
    queries = []
    for row, (where, record) in enumerate(records.read_records(path)):
        reference, target, *distractors = _items(record, where)
        pool = _numbered(target, *distractors)
        copies |= {name: item.id for name, item in pool.items() if name != item.id}
        items |= {reference.id: reference, **pool}
        condition = records.field(record, "condition", str, where)
        queries.append(Query(str(row), reference.id, (condition,), {target.id: 1}, subset=tuple(pool)))
    gallery = dict.fromkeys(name for query in queries for name in query.subset)
    return Annotations(tuple(queries), tuple(gallery), _images(root, task, items), copies=copies)


def _items(record: records.Record, where: str) -> list[_Item]:
    """Reference, target and distractors of a record."""
    single = [records.field(record, key, dict, where) for key in ("reference", "target")]
    return [_item(item, where) for item in (*single, *records.field(record, "gallery", list, where))]


def _item(record: records.Record, where: str) -> _Item:
    if "val_image_id" in record:
        stem = f"{records.field(record, 'val_image_id', int, where):012d}"
        return _Item(stem, stem, None)
    stem = records.field(record, "image_id", str, where)
    corners = records.field(record, "instance_bbox", list, where)
    if len(corners) != 4 or not all(isinstance(value, int | float) for value in corners):
        raise InputError(f"{where}: the box {corners!r} is not four numbers (left, top, width, height).")
    left, top, width, height = map(float, corners)
    return _Item(f"{stem}@{left:.9g},{top:.9g},{width:.9g},{height:.9g}", stem, (left, top, width, height))


def _numbered(*pool: _Item) -> dict[str, _Item]:
    """The pool by id; what stands in it again gets a number, so that it takes a place of its own."""
    counts: Counter[str] = Counter()
    named = {}
    for item in pool:
        counts[item.id] += 1
        named[item.id if counts[item.id] == 1 else f"{item.id}#{counts[item.id]}"] = item
    return named


def _images(root: Path, task: str, items: Mapping[str, _Item]) -> FileImages:
    folders = [root / name for name in (_VISUAL_GENOME if task.endswith("attribute") else _COCO)]
    there = images_by_stem(*folders)
    place = first_folder(*folders)  # where a missing image is missed
    paths = {name: there.get(item.stem, place / f"{item.stem}.jpg") for name, item in items.items()}
    boxes = {name: item.box for name, item in items.items() if item.box is not None}
    return CroppedImages(paths, boxes) if boxes else FileImages(paths)


def _release(task: str) -> Release:
    queries, gallery = _COUNTS[task]
    return Release(
        name=f"genecis-{task}",
        folder="genecis",
        version="1",
        counts={"test": {"queries": queries, "gallery entries": gallery}},
        protocol=Protocol(query_text_field="condition", gallery="pool", tie_break="target-last"),
        metrics=("success@1", "success@2", "success@3"),
        files=lambda root, split: _files(root, task),
        read=lambda root, split, protocol: _read(root, task),
        text_fields=("condition",),
    )


GENECIS: Final = tuple(map(_release, _COUNTS))
"""`genecis-focus-attribute`, `-change-attribute`, `-focus-object`, `-change-object`; split `test`."""
