"""The text layer of PDFs, page by page, as JSON lines: for text baselines and for matching answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmret.data import records
from mmret.data.cores import usable_cores
from mmret.errors import InputError
from mmret.pages import pdf
from mmret.pages.documents import Document, Kind, Listing, Passwords
from mmret.pages.failures import PageError, write_failures
from mmret.pages.ledger import Ledger
from mmret.pages.processing import Outcome, process

_CHUNK = 64


@dataclass(frozen=True)
class TextLayer:
    """The job of `extract_text`."""

    def fingerprint(self, kind: Kind) -> str:
        """The version of PDFium."""
        return pdf.version()

    def chunk(self, kind: Kind) -> int:
        """So many pages of text are small."""
        return _CHUNK

    def count(self, path: Path, kind: Kind, password: str | None) -> int:
        """PDFium's count; raises `PageError`."""
        with pdf.open_pdf(path, password) as document:
            return len(document)

    def pages(
        self, path: Path, document: Document, numbers: Sequence[int], password: str | None
    ) -> Iterator[tuple[int, dict[str, Any] | PageError]]:
        """Read page after page."""
        with pdf.open_pdf(path, password) as opened:
            for number in numbers:
                try:
                    yield number, {"text": pdf.page_text(opened, number)}
                except PageError as error:
                    yield number, error

    def is_there(self, id: str) -> bool:
        """The record itself is all there is."""
        return True

    def discard(self, ids: Sequence[str]) -> None:
        """There are no files."""


def failures_path(out: Path) -> Path:
    """`failures.jsonl` beside `text.jsonl`, as `text.failures.jsonl`."""
    return out.with_name(f"{out.stem}.failures.jsonl")


def extract_text(
    listing: Listing, out: str | Path, *, passwords: Passwords | None = None, workers: int | None = None
) -> Outcome:
    """Write the text of all pages of a folder's PDFs as JSON lines (id, file, page, pages, text, stamp, made_by).

    A later run reads only what is missing or changed. Pages without a text layer (scans) have an empty text. Failures
    go to `<out>.failures.jsonl`; a listing of PDFs alone is asked for.

    Raises:
        InputError: other documents than PDFs are listed; the file cannot be written or is being written.
    """
    if any(document.kind != "pdf" for document in listing.documents):
        raise InputError("only PDFs have a text layer: list documents with kinds=['pdf'].")
    with Ledger(out) as ledger:
        outcome = process(
            TextLayer(),
            listing,
            ledger,
            passwords=passwords or Passwords(),
            workers=usable_cores() if workers is None else workers,
            label="reading text",
        )
    write_failures(failures_path(Path(out)), outcome.failures)
    return outcome


def read_texts(path: str | Path) -> dict[str, str]:
    """Texts by page id, from a file of `extract_text` or of `ocr.recognise_text`; raises `InputError`."""
    return {
        records.field(record, "id", str, where): records.field(record, "text", str, where)
        for where, record in records.read_json_lines(path)
    }
