"""The texts of a gallery by id: a text layer, OCR, a column of a table; read as they are needed, never all at once."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from mmret.data import records
from mmret.errors import InputError


class TextSource(Protocol):
    """Texts by id, streamed."""

    def read(self, ids: Collection[str] | None = None) -> Iterator[tuple[str, str]]:
        """Yield (id, text) in the source's own order, by default of all; ids that are not there are passed over."""
        ...


@dataclass(frozen=True)
class MappedTexts:
    """Texts in memory, of a benchmark whose gallery is texts; a `TextSource`."""

    texts: Mapping[str, str]

    def read(self, ids: Collection[str] | None = None) -> Iterator[tuple[str, str]]:
        """Yield (id, text)."""
        return ((id, text) for id, text in self.texts.items() if ids is None or id in ids)


class TextFile:
    """Texts in JSON lines with `id` and `text`, as `mmret pages text` and `mmret pages ocr` write them; a `TextSource`.

    Lines are read again each time, one by one. Raises `InputError`: no file, a line that is no such record, an id that
    comes twice.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(
                f"There is no file of texts {self.path}; `mmret pages text` or `ocr` writes one."
            )

    def read(self, ids: Collection[str] | None = None) -> Iterator[tuple[str, str]]:
        """Yield (id, text)."""
        seen: set[str] = set()
        for where, record in records.read_json_lines(self.path):
            id = records.field(record, "id", str, where)
            if id in seen:
                raise InputError(f"{where} gives {id!r} another text; keep one.")
            seen.add(id)
            if ids is None or id in ids:
                yield id, records.field(record, "text", str, where)


@dataclass(frozen=True)
class GalleryTexts:
    """The texts of a gallery from a source that may hold more, and must not hold less; a `TextSource`.

    A page with an empty text (a scan without a text layer) is one like any other. `name` is said in the `InputError`
    for a page without a text.
    """

    source: TextSource
    gallery: Collection[str]
    name: str

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.gallery)

    def read(self, ids: Collection[str] | None = None) -> Iterator[tuple[str, str]]:
        """Yield (id, text); raises `InputError` at the end if any is missing."""
        wanted = self._known if ids is None else self._known & frozenset(ids)
        missing = set(wanted)
        for id, text in self.source.read(wanted):
            missing.discard(id)
            yield id, text
        if missing:
            raise InputError(
                f"{self.name} has no text for {len(missing):,} of {len(wanted):,} documents, such as {min(missing)!r}; "
                "write it again, of the same documents."
            )
