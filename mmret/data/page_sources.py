"""Training sets of queries and pages by one text that says where they are and in what layout: `KIND:PLACE?OPTIONS`.

| source | layout | splits |
|---|---|---|
| `tables:FOLDER`, `hub:NAME` | three tables, or rows of query and page (`mmret.data.beir`) | its own |
| `pairs:FILE` | CSV, TSV, JSON lines or parquet with query and page (`mmret.data.page_pairs`) | none |
| `outlines:FOLDER` | PDFs; titles of their outlines are queries for their pages | none |
| `labelled:FOLDER` | documents and `queries.jsonl` (`mmret.data.page_labels`) | none |

Options are `language=english` for tables, and for documents `pages=FOLDER` (pages that `mmret pages render` drew; else
they are drawn as they are read) and `longest_side=980` (pixels of pages that are drawn).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mmret.data.beir import Tables, folder_tables, hub_tables, read_tables
from mmret.data.outline_queries import read_outline_queries
from mmret.data.page_labels import read_labels
from mmret.data.page_pairs import read_pairs
from mmret.data.query_pages import QueryPages, from_annotations
from mmret.errors import InputError
from mmret.pages.settings import RenderSettings, Sizing

TRAIN: Final = "train"


@dataclass(frozen=True)
class Source:
    """What a source's text says, and which split of it is meant."""

    text: str
    kind: str
    place: str
    options: Mapping[str, str]
    split: str = TRAIN

    @property
    def folder(self) -> Path:
        """The place, an existing folder; raises `InputError`."""
        found = Path(self.place)
        if not found.is_dir():
            raise InputError(f"There is no folder {found}.")
        return found

    @property
    def settings(self) -> RenderSettings | None:
        """How pages are drawn, where the options say it."""
        side = self.options.get("longest_side")
        if side is None:
            return None
        if not side.isdecimal():
            raise InputError(f"source {self.text!r}: longest_side is {side!r}; give a number of pixels.")
        return RenderSettings(sizing=Sizing(longest_side=int(side)))

    def without_splits(self) -> "Source":
        """This source; raises `InputError` where a split was asked of a layout that has none."""
        if self.split != TRAIN:
            raise InputError(
                f"{self.text} has no splits, so none is {self.split!r}; hold queries or documents out with held_out."
            )
        return self


def open_query_pages(source: str, split: str = TRAIN, root: str | Path | None = None) -> QueryPages:
    """Read a split of a training set: see this module's table. `root` is its place where the source names none.

    Raises:
        InputError: No such kind, place, split or option; a file that is not in the layout; no queries.
    """
    parsed = _parse(source, split, root)
    return READERS[parsed.kind].read(parsed)


def _parse(text: str, split: str, root: str | Path | None) -> Source:
    words, _, query = text.partition("?")
    kind, _, place = words.partition(":")
    if place and root is not None:
        raise InputError(f"source {text!r} names its place, so leave root ({root}) out.")
    place = place or ("" if root is None else str(root))
    if kind not in READERS or not place:
        known = ", ".join(f"{name}:{reader.place}" for name, reader in READERS.items())
        raise InputError(f"source is {text!r}; queries and pages come from {known}.")
    options = dict(item.partition("=")[::2] for item in query.split("&") if item)
    unknown = sorted(set(options) - set(READERS[kind].options))
    if unknown:
        takes = ", ".join(READERS[kind].options) or "none"
        raise InputError(f"source {text!r} has the option {unknown[0]!r}; {kind}: takes {takes}.")
    return Source(text, kind, place, options, split)


def _tables(source: Source) -> QueryPages:
    return _judged(source, folder_tables(source.folder), source.folder)


def _hub(source: Source) -> QueryPages:
    return _judged(source, hub_tables(source.place), None)


def _judged(source: Source, tables: Tables, root: Path | None) -> QueryPages:
    found = read_tables(tables, source.split, root)
    language = source.options.get("language")
    if language is not None:
        spoken = tuple(query for query in found.queries if query.attributes.get("language") == language)
        found = replace(found, queries=spoken)
    return from_annotations(source.text, found)


def _labelled(source: Source) -> QueryPages:
    return from_annotations(source.text, read_labels(source.without_splits().folder, "split"))


def _outlines(source: Source) -> QueryPages:
    rendered = source.options.get("pages")
    return read_outline_queries(source.without_splits().folder, rendered, source.settings)


def _pairs(source: Source) -> QueryPages:
    return read_pairs(Path(source.without_splits().place), source.settings)


@dataclass(frozen=True)
class Reader:
    """A layout: what its place is called in messages, how it is read, and its options."""

    place: str
    read: Callable[[Source], QueryPages]
    options: tuple[str, ...] = ()


READERS: Final[dict[str, Reader]] = {
    "tables": Reader("FOLDER", _tables, ("language",)),
    "hub": Reader("NAME", _hub, ("language",)),
    "pairs": Reader("FILE", _pairs, ("longest_side",)),
    "outlines": Reader("FOLDER", _outlines, ("pages", "longest_side")),
    "labelled": Reader("FOLDER", _labelled),
}
