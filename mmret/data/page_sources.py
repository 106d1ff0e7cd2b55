"""Training sets of queries and pages by one text that says where they are and in what layout: `KIND:PLACE?OPTIONS`.

| source | layout | splits |
|---|---|---|
| `tables:FOLDER`, `hub:NAME` | three tables, or rows of query and page (`mmret.data.beir`) | its own |
| `wiki-ss`, `docmatix-ir` | questions that name their pages, below the data folder (`mmret.data.passages`) | its own |
| `passages:QUESTIONS+CORPUS` | the same, each a folder or `hub:NAME` | its own |
| `slidevqa`, `slidevqa-open`, `decks:FOLDER` | hard negatives: a deck's other slides (`mmret.data.decks`) | its own |
| `pairs:FILE` | CSV, TSV, JSON lines or parquet with query and page (`mmret.data.page_pairs`) | none |
| `outlines:FOLDER` | PDFs; titles of their outlines are queries for their pages | none |
| `labelled:FOLDER` | documents and `queries.jsonl` (`mmret.data.page_labels`) | none |

Options are `language=english` for tables, and for documents `pages=FOLDER` (pages that `mmret pages render` drew; else
they are drawn as they are read) and `longest_side=980` (pixels of pages that are drawn). A published set lies elsewhere
as `wiki-ss:FOLDER`; `decks:hub:NAME` is one of the hub.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mmret.data.beir import Tables, folder_tables, hub_tables, read_tables
from mmret.data.catalogue import data_folder
from mmret.data.decks import read_decks
from mmret.data.outline_queries import read_outline_queries
from mmret.data.page_labels import read_labels
from mmret.data.page_pairs import read_pairs
from mmret.data.passages import RELEASES, read_named, read_release
from mmret.data.query_pages import QueryPages, from_annotations
from mmret.data.record_tables import require_split
from mmret.errors import InputError
from mmret.pages.settings import RenderSettings, Sizing

TRAIN: Final = "train"
_HUB: Final = "hub"


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
    usual = READERS[kind].folder if kind in READERS else None
    if not place and usual is not None:
        place = str(data_folder(usual))
    if kind not in READERS or not place:
        known = ", ".join(f"{name}:{reader.place}" for name, reader in READERS.items())
        raise InputError(f"source is {text!r}; queries and pages come from {known}.")
    options = dict(item.partition("=")[::2] for item in query.split("&") if item)
    unknown = sorted(set(options) - set(READERS[kind].options))
    if unknown:
        takes = ", ".join(READERS[kind].options) or "none"
        raise InputError(f"source {text!r} has the option {unknown[0]!r}; {kind}: takes {takes}.")
    return Source(text, kind, place, options, split)


def _tables_of(source: Source) -> tuple[Tables, Path | None]:
    """The tables of a folder or of `hub:NAME`, of the split asked for; what paths in them are below."""
    on_hub = source.kind == _HUB or source.place.startswith(f"{_HUB}:")
    root = None if on_hub else source.folder
    tables = hub_tables(source.place.removeprefix(f"{_HUB}:")) if root is None else folder_tables(root)
    for name in ("queries", "qrels") if tables("queries", source.split) else ("rows",):
        require_split(tables(name, source.split), source.split)
    return tables, root


def _judged(source: Source) -> QueryPages:
    tables, root = _tables_of(source)
    found = read_tables(tables, source.split, root)
    language = source.options.get("language")
    if language is not None:
        spoken = tuple(query for query in found.queries if query.attributes.get("language") == language)
        found = replace(found, queries=spoken)
    return from_annotations(source.text, found)


def _decks(source: Source) -> QueryPages:
    tables, root = _tables_of(source)
    return read_decks(source.text, tables, source.split, root)


def _passages(source: Source) -> QueryPages:
    return read_named(source.place, source.split)


def _release(source: Source) -> QueryPages:
    return read_release(source.kind, source.folder, source.split)


def _labelled(source: Source) -> QueryPages:
    return from_annotations(source.text, read_labels(source.without_splits().folder, "split"))


def _outlines(source: Source) -> QueryPages:
    rendered = source.options.get("pages")
    return read_outline_queries(source.without_splits().folder, rendered, source.settings)


def _pairs(source: Source) -> QueryPages:
    return read_pairs(Path(source.without_splits().place), source.settings)


@dataclass(frozen=True)
class Reader:
    """A layout: what its place is called in messages, how it is read, its options, its folder below the data folder."""

    place: str
    read: Callable[[Source], QueryPages]
    options: tuple[str, ...] = ()
    folder: str | None = None


READERS: Final[dict[str, Reader]] = {
    "tables": Reader("FOLDER", _judged, ("language",)),
    _HUB: Reader("NAME", _judged, ("language",)),
    "passages": Reader("QUESTIONS+CORPUS", _passages),
    **{name: Reader("FOLDER", _release, folder=release.folder) for name, release in RELEASES.items()},
    "decks": Reader("FOLDER", _decks),
    **{name: Reader("FOLDER", _decks, folder=name) for name in ("slidevqa", "slidevqa-open")},
    "pairs": Reader("FILE", _pairs, ("longest_side",)),
    "outlines": Reader("FOLDER", _outlines, ("pages", "longest_side")),
    "labelled": Reader("FOLDER", _labelled),
}
