"""One's own pairs of query and page, in a table: CSV, TSV, JSON lines, parquet.

| column | value |
|---|---|
| `query` | words |
| `page` | an image's path below the table's folder, `file.pdf#3` (pages from 0), or in JSON [file, page] |
| `negatives` (optional) | pages that do not answer it, the hardest first: a list (in CSV as JSON), or one page |
| `query_id` (optional) | rows without one that ask the same are one query with several pages |
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from mmret.data import records
from mmret.data.images import FileImages, ImageSource
from mmret.data.query_pages import PageQuery, QueryPages
from mmret.data.record_tables import RecordTable
from mmret.errors import InputError
from mmret.pages.documents import page_id
from mmret.pages.settings import RenderSettings
from mmret.pages.sources import DocumentPages

_DOCUMENTS = (".pdf", ".html", ".htm")


@dataclass
class _Asked:
    """What the rows of one query say."""

    text: str
    positives: list[str] = field(default_factory=list)
    negatives: list[str] = field(default_factory=list)


class PairImages:
    """The pages that a table names: image files, and pages of documents that are drawn when they are read.

    An `ImageSource`. Raises `InputError` for images that are missing and documents that cannot be opened.
    """

    def __init__(self, root: Path, ids: Iterable[str], settings: RenderSettings | None = None) -> None:
        wanted = list(dict.fromkeys(ids))
        drawn = [id for id in wanted if _document(id)]
        self._files = FileImages({id: root / id for id in wanted if not _document(id)})
        self._documents = _open(root, drawn, settings)
        missing = self._files.missing(self._files.ids)
        if missing:
            raise InputError(
                f"{len(missing):,} images are not there, the first {self._files.place(missing[0])}."
            )
        known = set(self._documents.ids) if self._documents else set()
        self.ids: Sequence[str] = (*self._files.ids, *(id for id in drawn if id in known))

    def read(self, id: str) -> Image.Image:
        """Read or draw the page, RGB; raises `InputError`."""
        return self._of(id).read(id)

    def stamp(self, id: str) -> str:
        """A text that changes with the page's file; raises `InputError`."""
        return self._of(id).stamp(id)

    def _of(self, id: str) -> ImageSource:
        return self._documents if self._documents is not None and _document(id) else self._files


def _open(root: Path, drawn: Sequence[str], settings: RenderSettings | None) -> DocumentPages | None:
    if not drawn:
        return None
    files = [id.rpartition("#")[0] for id in drawn]
    pages = DocumentPages(root, settings, only=list(dict.fromkeys(files)))
    if pages.failures:
        raise InputError(f"{root} has documents that cannot be read: {pages.failures[0]}")
    return pages


def _document(id: str) -> bool:
    """Whether an id names a page of a PDF or of HTML, and no image file."""
    return id.rpartition("#")[0].lower().endswith(_DOCUMENTS)


def read_pairs(path: Path, settings: RenderSettings | None = None) -> QueryPages:
    """Read a table of pairs: see this module's text. `settings` say how pages of documents are drawn.

    Raises:
        InputError: No such file or column, a row without words or page, one query id for other words, pages that are
            not there.
    """
    asked: dict[str, _Asked] = {}
    for where, id, text, page, negatives in _rows(RecordTable([path])):
        query = asked.setdefault(id, _Asked(text))
        if query.text != text:
            raise InputError(
                f"{where} asks {text!r} as the query {id!r}, which asks {query.text!r} above: give it an id of its own."
            )
        query.positives.append(page)
        query.negatives += negatives
    named = (id for query in asked.values() for id in (*query.positives, *query.negatives))
    images = PairImages(path.parent, named, settings)
    queries = (
        PageQuery(id, query.text, tuple(query.positives), tuple(query.negatives))
        for id, query in asked.items()
    )
    return QueryPages.of(str(path), queries, images)


def _rows(table: RecordTable) -> Iterator[tuple[str, str, str, str, list[str]]]:
    """(place, id, words, page, negatives) of every row."""
    query, page = table.require("query"), table.require("page")
    negatives, id_column = table.optional("negatives"), table.optional("query_id", "query-id", "qid")
    numbers: dict[str, str] = {}
    columns = [name for name in (query, page, negatives, id_column) if name is not None]
    for where, row in table.rows(columns):
        text = records.field(row, query, str, where).strip()
        if not text:
            raise InputError(f"{where} has no words in 'query'.")
        id = str(row[id_column]) if id_column else numbers.setdefault(text, f"{len(numbers)}")
        yield where, id, text, _page(row[page], where), _pages(row[negatives] if negatives else None, where)


def _page(value: Any, where: str) -> str:
    """The id of a page: a path, `file.pdf#3`, or [file, page]."""
    if isinstance(value, list) and [type(item) for item in value] == [str, int]:
        file, number = value
        return page_id(file, number) if file.lower().endswith(_DOCUMENTS) else file
    if not isinstance(value, str) or not value.strip():
        raise InputError(
            f"{where}: the page is {value!r}, where a path, file.pdf#3 or [file, page] is needed."
        )
    if value.lower().endswith(_DOCUMENTS):
        raise InputError(f"{where} names the document {value} without a page; write {value}#0 for its first.")
    return value.strip()


def _pages(value: Any, where: str) -> list[str]:
    """The negatives of a row: none, one page, or a list of pages (in a cell of CSV, as JSON)."""
    if value is None or value == "":
        return []
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise InputError(f"{where}: 'negatives' is no JSON list ({error}).") from None
    single = isinstance(value, str) or (isinstance(value, list) and [*map(type, value)] == [str, int])
    return [_page(item, where) for item in ([value] if single else value)]
