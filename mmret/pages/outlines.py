"""The outlines of PDFs as (query, page) pairs that their authors wrote: title → page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

from mmret.data.cores import usable_cores
from mmret.data.records import write_json_lines
from mmret.pages import pdf
from mmret.pages.documents import Document, Listing, Passwords
from mmret.pages.failures import Failure, PageError, write_failures
from mmret.pages.text import failures_path
from mmret.pages.work import Crashed, run_tasks


@dataclass(frozen=True)
class Heading:
    """An entry of an outline: a title with single spaces, the titles above it, and its page from 0."""

    title: str
    above: tuple[str, ...]
    page: int


@dataclass(frozen=True)
class OutlinePairs:
    """What the outlines of a folder gave: `records` of queries, the number of all entries, and what failed."""

    records: tuple[dict[str, Any], ...]
    entries: int
    failures: tuple[Failure, ...]


def read_outline(path: Path, password: str | None = None) -> list[Heading | None]:
    """The outline of a PDF in its order; None for an entry without a title or without a page in the file.

    Raises:
        PageError: the PDF cannot be opened.
    """
    with pdf.open_pdf(path, password) as document:
        above: list[str] = []
        found: list[Heading | None] = []
        for mark in document.get_toc():
            title = _title(mark)
            del above[mark.level :]
            page = _page(document, mark)
            found.append(
                Heading(title, tuple(filter(None, above)), page) if title and page is not None else None
            )
            above += [""] * (mark.level - len(above)) + [title]
        return found


def _title(mark: pypdfium2.PdfBookmark) -> str:
    try:
        return " ".join(mark.get_title().replace("\0", " ").split())
    except UnicodeDecodeError:  # half of a UTF-16 pair
        return ""


def _page(document: pypdfium2.PdfDocument, mark: pypdfium2.PdfBookmark) -> int | None:
    target = mark.get_dest()
    index = -1 if target is None else pdfium.FPDFDest_GetDestPageIndex(document, target)
    return index if 0 <= index < len(document) else None


def outline_pairs(
    listing: Listing, *, passwords: Passwords | None = None, workers: int | None = None
) -> OutlinePairs:
    """Queries from the outlines of a folder's PDFs, in the form of a file of judged queries.

    A record is `qid`, `query` (the title), `relevant` [[file, page from 0], …], `file`, `above` (the titles over it).
    Entries without a title or a page are left out. A title that returns in a document, whatever its case, is one
    query; several pages are then relevant, each named once.
    """
    passwords = passwords or Passwords()
    tasks = [(document, passwords.of(document.file)) for document in listing.documents]
    crew = usable_cores() if workers is None else workers
    found: dict[str, list[Heading | None]] = {}
    failures = list(listing.failures)
    for (document, _), answer in run_tasks(partial(_read, listing.root), tasks, crew):
        if isinstance(answer, Crashed):
            answer = Failure(document.file, None, "crash", "the process that read it was killed")
        if isinstance(answer, Failure):
            failures.append(answer)
        else:
            found[document.file] = answer
    records = [record for file in sorted(found) for record in _queries(file, found[file])]
    failures.sort(key=lambda failure: failure.file)
    return OutlinePairs(tuple(records), sum(map(len, found.values())), tuple(failures))


def _read(root: Path, task: tuple[Document, str | None]) -> list[Heading | None] | Failure:
    document, password = task
    try:
        return read_outline(root / document.file, password)
    except PageError as error:
        return Failure.of(document.file, None, error)


def _queries(file: str, outline: Sequence[Heading | None]) -> Iterator[dict[str, Any]]:
    together: dict[str, list[Heading]] = {}
    for heading in outline:
        if heading is not None:
            together.setdefault(heading.title.casefold(), []).append(heading)
    for number, headings in enumerate(together.values()):
        first = headings[0]
        yield {
            "qid": f"{file}#outline-{number}",
            "query": first.title,
            "relevant": [[file, page] for page in sorted({heading.page for heading in headings})],
            "file": file,
            "above": list(first.above),
        }


def write_pairs(path: str | Path, pairs: OutlinePairs) -> None:
    """Write the queries as JSON lines, and the failures beside them, each whole or not at all."""
    write_json_lines(path, pairs.records)
    write_failures(failures_path(Path(path)), pairs.failures)
