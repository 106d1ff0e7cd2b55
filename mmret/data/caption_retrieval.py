"""Caption retrieval on COCO and Flickr30k, in both directions: CLIP's own image ↔ text tables.

`…-text-to-image` asks with every caption for its image; `…-image-to-text` asks with every image for any of its
captions. Each image brings its first five captions, as is usual: COCO's splits hold a few with six or more.

`coco-captions` and `flickr30k` are Karpathy's splits (Karpathy and Fei-Fei, CVPR 2015), on which the published tables
stand; `coco-captions-2017` is COCO's own val2017, whose images GeneCIS uses too.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from mmret.data import records
from mmret.data.benchmark import Query
from mmret.data.images import FileImages
from mmret.data.protocol import Protocol
from mmret.data.published import Annotations, Release
from mmret.errors import InputError

CAPTIONS: Final = 5
"""Captions that an image brings."""

Direction = Literal["text-to-image", "image-to-text"]


@dataclass(frozen=True)
class _Captioned:
    """An image's path below the root and its captions."""

    path: str
    captions: tuple[str, ...]


def _karpathy(path: Path, split: str, folder: str | None) -> dict[str, _Captioned]:
    """The images of a split by file name. `folder` holds them, unless each record says where it lies."""
    record = records.read_json(path)
    if not isinstance(record, dict):
        raise InputError(f"{path} holds a {type(record).__name__}, not an object with a list of images.")
    found = {}
    for row, item in enumerate(records.field(record, "images", list, str(path))):
        where = f"{path}, image {row}"
        if records.field(item, "split", str, where) == split:
            name = records.field(item, "filename", str, where)
            sentences = records.field(item, "sentences", list, where)
            captions = tuple(records.field(sentence, "raw", str, where) for sentence in sentences)
            found[name] = _Captioned(f"{folder or item['filepath']}/{name}", captions)
    return found


def _coco_2017(path: Path, split: str, folder: str | None) -> dict[str, _Captioned]:
    """The images of COCO's own annotations by file name, captions in the order of the file."""
    record = records.read_json(path)
    if not isinstance(record, dict):
        raise InputError(f"{path} holds a {type(record).__name__}, not COCO's object.")
    captions: dict[int, list[str]] = defaultdict(list)
    for item in records.field(record, "annotations", list, str(path)):
        captions[records.field(item, "image_id", int, str(path))].append(
            records.field(item, "caption", str, str(path))
        )
    images = records.field(record, "images", list, str(path))
    names = {records.field(item, "file_name", str, str(path)): item["id"] for item in images}
    return {name: _Captioned(f"{folder}/{name}", tuple(captions[id])) for name, id in names.items()}


@dataclass(frozen=True)
class _Source:
    """A set of captioned images: where it lies below the data folder, its file and reader, and its images."""

    folder: str
    file: str
    read: Callable[[Path, str, str | None], dict[str, _Captioned]]
    images: str | None
    sizes: Mapping[str, int]


_SOURCES: Final = {
    "coco-captions": _Source("coco", "dataset_coco.json", _karpathy, None, {"val": 5000, "test": 5000}),
    "coco-captions-2017": _Source(
        "coco", "annotations/captions_val2017.json", _coco_2017, "val2017", {"val": 5000}
    ),
    "flickr30k": _Source(
        "flickr30k", "dataset_flickr30k.json", _karpathy, "flickr30k-images", {"val": 1014, "test": 1000}
    ),
}


def _read(source: _Source, direction: Direction, root: Path, split: str) -> Annotations:
    captioned = source.read(root / source.file, split, source.images)
    short = [name for name, item in captioned.items() if len(item.captions) < CAPTIONS]
    if short:
        raise InputError(
            f"{root / source.file} has fewer than {CAPTIONS} captions for {len(short):,} images, first {short[0]}."
        )
    # Flickr30k's own way to number captions.
    captions = {
        name: {f"{name}#{number}": text for number, text in enumerate(item.captions[:CAPTIONS])}
        for name, item in captioned.items()
    }
    images = FileImages({name: root / item.path for name, item in captioned.items()})
    if direction == "text-to-image":
        asked = ((id, text, name) for name, own in captions.items() for id, text in own.items())
        queries = tuple(Query(id, None, (text,), {name: 1}) for id, text, name in asked)
        return Annotations(queries, tuple(captioned), images)
    queries = tuple(Query(name, name, (), dict.fromkeys(own, 1)) for name, own in captions.items())
    texts = {id: text for own in captions.values() for id, text in own.items()}
    return Annotations(queries, tuple(texts), images, texts=texts)


def _counts(images: int, direction: Direction) -> dict[str, int]:
    if direction == "text-to-image":
        return {"queries": CAPTIONS * images, "gallery entries": images}
    return {"queries": images, "gallery entries": CAPTIONS * images}


def _release(name: str, source: _Source, direction: Direction) -> Release:
    return Release(
        name=f"{name}-{direction}",
        folder=source.folder,
        version="1",
        counts={split: _counts(images, direction) for split, images in source.sizes.items()},
        protocol=Protocol(query_text_field="caption"),
        metrics=("success@1", "success@5", "success@10"),
        files=lambda root, split: (root / source.file,),
        read=lambda root, split, protocol: _read(source, direction, root, split),
        text_fields=("caption",),
    )


CAPTION_RETRIEVAL: Final = tuple(
    _release(name, source, direction)
    for name, source in _SOURCES.items()
    for direction in ("text-to-image", "image-to-text")
)
"""`coco-captions-text-to-image`, `coco-captions-image-to-text`, and so on for the others."""
