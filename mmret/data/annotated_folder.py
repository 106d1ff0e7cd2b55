"""A folder of images with captions and edits, as a benchmark and as training data.

Layout of the folder (only `images/` and one of the two `.jsonl` files are needed):

    images/          the images, in subfolders if you like; an image's id is its path below `images/`
    captions.jsonl   {"image": id, "caption": text or "captions": [texts], "split": "train" | "val" | "test"}
    queries.jsonl    {"id": unique, "reference": image id, "text": text or "texts": [texts],
                      "targets": [image ids] or {image id: grade}, "split": ...};
                     may also carry "subset" (a pool of image ids) and "attributes" ({name: value});
                     without "reference" it is a text query
    folder.json      optional: "name", "version", "images" (another place), "protocol", "metrics"

The gallery of a split is every image that `captions.jsonl` gives to it; without that file, all images.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmret.data import records
from mmret.data.benchmark import Benchmark, Query, parse_query
from mmret.data.captions import CaptionedImages, ImageCaptions, read_captions
from mmret.data.images import FolderImages, ImageSource
from mmret.data.missing_images import find_unreadable, without_images
from mmret.data.protocol import Protocol
from mmret.errors import InputError

DEFAULT_METRICS = ("recall@1", "recall@5", "recall@10", "map@10")


@dataclass(frozen=True)
class FolderDescription:
    """What `folder.json` says of an annotated folder, or the defaults where it says nothing."""

    root: Path
    name: str
    version: str
    images: Path
    protocol: Protocol = field(default_factory=Protocol)
    metrics: tuple[str, ...] = DEFAULT_METRICS


def describe_folder(root: str | Path) -> FolderDescription:
    """Read `folder.json`; the version defaults to a fingerprint of the annotation files."""
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"There is no folder {root}.")
    path = root / "folder.json"
    record: Mapping[str, Any] = records.read_json(path) if path.exists() else {}
    known = ("name", "version", "images", "protocol", "metrics")
    unknown = sorted(set(record) - set(known))
    if unknown:
        raise InputError(f"{path} has the unknown key {unknown[0]!r}; known are {', '.join(known)}.")
    return FolderDescription(
        root=root,
        name=record.get("name", root.resolve().name),
        version=record.get("version") or _annotations_fingerprint(root),
        images=root / record.get("images", "images"),
        protocol=Protocol.from_record(record.get("protocol", {}), str(path)),
        metrics=records.strings(record.get("metrics", list(DEFAULT_METRICS)), "metrics", str(path)),
    )


def load_annotated_folder(
    root: str | Path,
    split: str,
    *,
    queries: str = "queries.jsonl",
    allow_missing: bool = False,
    check_images: bool = True,
) -> Benchmark:
    """Load the queries and the gallery of one split.

    Args:
        root: The annotated folder (see the head of this module for its layout).
        split: Name of the split.
        queries: File of the queries below `root`.
        allow_missing: Go on with a smaller gallery, and without the queries that lose their reference or all
            their targets. A warning counts both.
        check_images: Decode every image of the gallery once, so that a broken one is found before any work.

    Raises:
        InputError: Missing keys, unknown or duplicate ids (with file and line, or the query's id), and images
            that are missing or broken, unless `allow_missing`.
    """
    folder = describe_folder(root)
    images = FolderImages(folder.images)
    asked = _read_queries(folder.root / queries, split)
    gallery = _split_gallery(folder, images, split)
    references = (query.reference for query in asked if query.reference is not None)
    bad = find_unreadable(images, dict.fromkeys((*gallery, *references)), decode=check_images)
    if bad:
        gallery, asked = without_images(gallery, asked, bad, folder.images, allow_missing)
    return Benchmark(
        folder.name, folder.version, split, images, gallery, asked, folder.protocol, folder.metrics
    )


def load_captioned_images(root: str | Path, split: str = "train") -> CaptionedImages:
    """The (image, caption) pairs of a split, for training; missing images raise InputError."""
    folder = describe_folder(root)
    return CaptionedImages(FolderImages(folder.images), split_captions(root, split))


def split_captions(root: str | Path, split: str = "train") -> list[ImageCaptions]:
    """The records of `captions.jsonl` that belong to a split; none at all raises InputError."""
    captions = read_captions(Path(root) / "captions.jsonl")
    chosen = [item for item in captions if item.split == split]
    if not chosen:
        splits = ", ".join(sorted({item.split for item in captions})) or "none"
        raise InputError(f"{Path(root) / 'captions.jsonl'} has no image of split {split!r}; it has {splits}.")
    return chosen


def _annotations_fingerprint(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(root.glob("*.jsonl")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _split_gallery(folder: FolderDescription, images: ImageSource, split: str) -> tuple[str, ...]:
    if not (folder.root / "captions.jsonl").exists():
        return tuple(images.ids)
    return tuple(item.image for item in split_captions(folder.root, split))


def _read_queries(path: Path, split: str) -> tuple[Query, ...]:
    parsed = [
        (records.field(record, "split", str, where), _with_words(parse_query(record, where), where))
        for where, record in records.read_records(path)
    ]
    chosen = tuple(query for query_split, query in parsed if query_split == split)
    if not chosen:
        splits = ", ".join(sorted({query_split for query_split, _ in parsed})) or "none"
        raise InputError(f"{path} has no query of split {split!r}; it has {splits}.")
    return chosen


def _with_words(query: Query, where: str) -> Query:
    """The query; published annotations have blank captions that count, in a folder of one's own they are mistakes."""
    if not query.texts or not all(text.strip() for text in query.texts):
        raise InputError(
            f"{where}: Query {query.id!r} has an empty caption: {list(query.texts)!r}; write the edit."
        )
    return query
