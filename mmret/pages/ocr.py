"""The text of page images by tesseract (through pytesseract), as JSON lines beside the images."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mmret.data.cores import usable_cores
from mmret.errors import InputError, missing_extra
from mmret.pages.documents import page_id, split_page_id
from mmret.pages.failures import Failure, write_failures
from mmret.pages.ledger import Ledger
from mmret.pages.processing import Outcome
from mmret.pages.sources import RenderedPages
from mmret.pages.text import failures_path
from mmret.pages.work import Crashed, run_tasks

OCR = "ocr.jsonl"
_CHUNK = 4
_SECONDS = 300
_THREADS = "OMP_THREAD_LIMIT"


@dataclass(frozen=True)
class OcrSettings:
    """What tesseract is told.

    Attributes:
        languages: Of the pages, as tesseract writes them: `eng`, `deu+eng`.
        layout: The page segmentation mode; 3 finds columns and blocks by itself.
    """

    languages: str = "eng"
    layout: int = 3


def tesseract_fingerprint(settings: OcrSettings) -> str:
    """Program, languages and mode; raises `InputError` where something of it is not installed."""
    try:
        import pytesseract

        version = pytesseract.get_tesseract_version()
        known = set(pytesseract.get_languages())
    except ImportError:
        raise missing_extra("OCR", "pytesseract", "ocr") from None
    except OSError as error:  # TesseractNotFoundError is one
        raise InputError("OCR needs the program tesseract (Debian: tesseract-ocr).") from error
    missing = set(settings.languages.split("+")) - known
    if missing:
        raise InputError(
            f"tesseract does not know {', '.join(sorted(missing))} (installed: {', '.join(sorted(known))}); "
            "Debian has languages as tesseract-ocr-deu and the like."
        )
    return f"tesseract {version}, {settings.languages}, psm {settings.layout}"


def recognise_text(
    folder: str | Path,
    out: str | Path | None = None,
    settings: OcrSettings | None = None,
    *,
    workers: int | None = None,
) -> Outcome:
    """Read all pages of a folder of rendered ones, and write their texts (by default to `ocr.jsonl` in it).

    Records and resumption are as in `text.extract_text`; a page that is drawn anew is read anew. Each process runs
    tesseract on one thread, unless the environment's OMP_THREAD_LIMIT says another number.

    Raises:
        InputError: no rendered pages; tesseract or a language is not installed; the file cannot be written.
    """
    settings = settings or OcrSettings()
    made_by = tesseract_fingerprint(settings)
    pages = RenderedPages(folder)
    known = set(pages.ids)
    path = Path(folder) / OCR if out is None else Path(out)
    failures: list[Failure] = []
    with Ledger(path) as ledger:
        todo = [id for id in pages.ids if not ledger.holds(id, pages.stamp(id), made_by)]
        kept = len(pages.ids) - len(todo)
        chunks = [tuple(todo[start : start + _CHUNK]) for start in range(0, len(todo), _CHUNK)]
        crew = usable_cores() if workers is None else workers
        work = partial(_read_chunk, pages, settings)
        with tqdm(total=len(pages.ids), initial=kept, desc="OCR", unit="page", disable=None) as bar:
            for chunk, texts in run_tasks(work, chunks, crew, _singly):
                bar.update(len(chunk))
                failures += _enter(ledger, pages, made_by, chunk, texts)
        forgotten = ledger.keep(lambda id: id in known and ledger.holds(id, pages.stamp(id), made_by))
    write_failures(failures_path(path), failures)
    return Outcome(len(todo) - len(failures), kept, tuple(forgotten), tuple(failures))


def _singly(chunk: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    return ((id,) for id in chunk)


def _read_chunk(pages: RenderedPages, settings: OcrSettings, ids: Sequence[str]) -> list[str | Failure]:
    # Threads of several tesseracts wait for each other: with two on two cores a page took 6.0 s of processor time,
    # and 1.6 s with one thread each.
    os.environ.setdefault(_THREADS, "1")
    return [_read(pages, settings, id) for id in ids]


def _read(pages: RenderedPages, settings: OcrSettings, id: str) -> str | Failure:
    import pytesseract

    file, page = split_page_id(id)
    try:
        image = pages.read(id)
        text = pytesseract.image_to_string(
            image, settings.languages, config=f"--psm {settings.layout}", timeout=_SECONDS
        )
        return str(text).strip()
    except InputError as error:
        return Failure(file, page, "damaged", str(error))
    except RuntimeError as error:  # TesseractError is one, and so is its timeout
        late = "timeout" in str(error)
        return Failure(file, page, "timeout" if late else "damaged", " ".join(str(error).split()))


def _enter(
    ledger: Ledger,
    pages: RenderedPages,
    made_by: str,
    chunk: Sequence[str],
    texts: Sequence[str | Failure] | Crashed,
) -> list[Failure]:
    """Add the texts of a chunk to the ledger; its failures."""
    if isinstance(texts, Crashed):
        return [Failure(*split_page_id(id), "crash", "the process that read it was killed") for id in chunk]
    read = [(id, text) for id, text in zip(chunk, texts, strict=True) if isinstance(text, str)]
    ledger.add(_record(pages, made_by, id, text) for id, text in read)
    return [text for text in texts if isinstance(text, Failure)]


def _record(pages: RenderedPages, made_by: str, id: str, text: str) -> dict[str, Any]:
    file, page = split_page_id(id)
    place = {"id": page_id(file, page), "file": file, "page": page, "pages": pages.pages(id)}
    return {**place, "text": text, "stamp": pages.stamp(id), "made_by": made_by}
