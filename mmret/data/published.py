"""Benchmarks in their authors' own layouts: what a whole copy holds, and how the one on disk becomes a `Benchmark`.

Each family has a module with its reader; what is common is here: counts that are verified, images that are missing,
and the version that tells a whole copy from a part of it.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmret.data.benchmark import Benchmark, Query
from mmret.data.images import GalleryImages
from mmret.data.missing_images import without_images
from mmret.data.protocol import Protocol
from mmret.data.text_sources import TextSource
from mmret.errors import InputError

TRIMMED = "TRIMMED.txt"
"""A file of this name beside the annotations says, in a sentence of its author, that they are a part of the whole."""


@dataclass(frozen=True)
class Annotations:
    """What a reader makes of the annotation files of a split; the fields are those of `Benchmark`.

    `gallery` is empty where the file that lists it is not there.
    """

    queries: tuple[Query, ...]
    gallery: tuple[str, ...]
    images: GalleryImages
    texts: Mapping[str, str] = field(default_factory=dict)
    copies: Mapping[str, str] = field(default_factory=dict)
    page_texts: TextSource | None = None

    @property
    def counts(self) -> dict[str, int]:
        """What is compared with a whole copy: the number of queries and, where it is known, the gallery's size."""
        return {"queries": len(self.queries)} | (
            {"gallery entries": len(self.gallery)} if self.gallery else {}
        )


@dataclass(frozen=True)
class Release:
    """A published benchmark.

    Attributes:
        name: For `load_benchmark`.
        folder: Where it lies below the data folder, unless a root is given.
        version: Of the whole release.
        counts: Split → how many queries and gallery entries a whole copy has.
        protocol: The official conventions.
        metrics: The headline first.
        files: The annotation files of a split, below a root.
        read: Reads them, given the root, the split and the protocol.
        text_fields: What `query_text_field` may be.
        averages: As in `Benchmark`.
        other_folders: Where it may lie instead of `folder`, the preferred first.
    """

    name: str
    folder: str
    version: str
    counts: Mapping[str, Mapping[str, int]]
    protocol: Protocol
    metrics: tuple[str, ...]
    files: Callable[[Path, str], tuple[Path, ...]]
    read: Callable[[Path, str, Protocol], Annotations]
    text_fields: tuple[str, ...]
    averages: tuple[tuple[str, ...], ...] = ()
    other_folders: tuple[str, ...] = ()

    def annotations(self, root: Path, split: str, protocol: Protocol | None = None) -> Annotations:
        """The split's annotations, as they are on disk; missing and malformed files raise InputError."""
        self._check_split(split)
        if not root.is_dir():
            raise InputError(
                f"There is no folder {root} for {self.name}; give it as the root, or set MMRET_DATA to the folder "
                f"that holds {self.folder}/ (data/README.md says where the data comes from)."
            )
        return self.read(root, split, protocol or self.protocol)

    def changed_protocol(self, changes: Mapping[str, Any]) -> Protocol:
        """The official protocol with some fields changed; what this benchmark does not have is refused."""
        protocol = self.protocol.changed(changes, self.name, fixed=["gallery"])
        if protocol.query_text_field not in self.text_fields:
            known = ", ".join(self.text_fields)
            raise InputError(f"{self.name} has no text field {protocol.query_text_field!r}; it has {known}.")
        return protocol

    def missing_files(self, root: Path, split: str) -> list[Path]:
        """The annotation files of the split that are not there."""
        self._check_split(split)
        return [path for path in self.files(root, split) if not path.is_file()]

    def differing_counts(self, root: Path, split: str, found: Annotations) -> list[str]:
        """A phrase for each count that differs from a whole copy's; none for annotations that say they are a part."""
        if (root / TRIMMED).is_file():
            return []
        return [
            f"{found.counts[what]:,} {what} where the whole has {number:,}"
            for what, number in self.counts[split].items()
            if found.counts.get(what, number) != number
        ]

    def _check_split(self, split: str) -> None:
        if split not in self.counts:
            raise InputError(f"{self.name} has no split {split!r}; it has {', '.join(self.counts)}.")


def load_release(
    release: Release,
    split: str,
    root: Path,
    *,
    protocol: Mapping[str, Any] | None = None,
    allow_missing: bool = False,
    annotations_only: bool = False,
) -> Benchmark:
    """Load a split of a published benchmark.

    Args:
        release: The benchmark.
        split: Its split.
        root: The folder in the authors' layout.
        protocol: Fields that differ from the official ones.
        allow_missing: Go on without images that are not there, see `without_images`. The version then says so.
        annotations_only: Do not look for images: enough to score a finished run.

    Raises:
        InputError: Files are missing, counts differ from the whole copy's, or images are missing.
    """
    conventions = release.changed_protocol(protocol or {})
    found = release.annotations(root, split, conventions)
    absent = release.missing_files(root, split)
    if absent and not annotations_only:
        raise InputError(f"{release.name} {split} lacks {', '.join(map(str, absent))}; see data/README.md.")
    _refuse_counts(release, split, root, found)
    version, gallery, queries = _version(release, split, root), found.gallery, found.queries
    if not annotations_only:
        bad = dict.fromkeys(found.images.missing(found.images.ids), "missing")
        if bad:
            gallery, queries = without_images(gallery, queries, bad, root, allow_missing)
            version += f"-without-{len(bad)}-{_digest(*sorted(bad))}"
    return Benchmark(
        name=release.name,
        version=version,
        split=split,
        images=found.images,
        gallery=gallery,
        queries=queries,
        protocol=conventions,
        metrics=release.metrics,
        averages=release.averages,
        texts=found.texts,
        copies=found.copies,
        page_texts=found.page_texts,
    )


def _refuse_counts(release: Release, split: str, root: Path, found: Annotations) -> None:
    differing = release.differing_counts(root, split, found)
    if differing:
        raise InputError(
            f"{release.name} {split} in {root} has {' and '.join(differing)}: fetch the annotations again or, if this "
            f"is a part on purpose, say so in a file {root / TRIMMED}."
        )


def _version(release: Release, split: str, root: Path) -> str:
    """The release's version; a part of it is told from the whole, and from other parts, by a digest."""
    if not (root / TRIMMED).is_file():
        return release.version
    files = [path for path in release.files(root, split) if path.is_file()]
    return f"{release.version}-trimmed-{_digest(*map(_content, files))}"


def _content(path: Path) -> str:
    """A file's text, or the digest of one that is no text."""
    if path.suffix in (".json", ".jsonl", ".txt"):
        return path.read_text(encoding="utf-8")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(*texts: str) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:8]


def first_folder(*candidates: Path) -> Path:
    """The first of these folders that is there; if none is, the first, so that messages name the authors' own."""
    return next((path for path in candidates if path.is_dir()), candidates[0])
