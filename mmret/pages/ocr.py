"""The text of pages and other images by tesseract (through pytesseract), as JSON lines."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mmret.data.cores import usable_cores
from mmret.data.images import ImageSource
from mmret.errors import InputError, missing_extra
from mmret.pages.documents import place_of
from mmret.pages.failures import Failure, write_failures
from mmret.pages.ledger import Ledger
from mmret.pages.processing import Outcome
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
    images: ImageSource,
    out: str | Path,
    settings: OcrSettings | None = None,
    *,
    workers: int | None = None,
) -> Outcome:
    """Read all images of a source (rendered pages, a benchmark's), and write their texts as JSON lines by their ids.

    A record has id, file and page (of a page's name; else the id, and null), text, stamp and made_by. A later run reads
    only what is missing or changed; failures go to `<out>.failures.jsonl`. Each process runs tesseract on one thread,
    unless the environment's OMP_THREAD_LIMIT says another number.

    Raises:
        InputError: tesseract or a language is not installed; the file cannot be written or is being written.
    """
    settings = settings or OcrSettings()
    made_by = tesseract_fingerprint(settings)
    stamps = {id: images.stamp(id) for id in images.ids}
    failures: list[Failure] = []
    with Ledger(out) as ledger:
        todo = [id for id, stamp in stamps.items() if not ledger.holds(id, stamp, made_by)]
        kept = len(stamps) - len(todo)
        chunks = [tuple(todo[start : start + _CHUNK]) for start in range(0, len(todo), _CHUNK)]
        crew = usable_cores() if workers is None else workers
        work = partial(_read_chunk, images, settings)
        with tqdm(total=len(stamps), initial=kept, desc="OCR", unit="page", disable=None) as bar:
            for chunk, texts in run_tasks(work, chunks, crew, _singly):
                bar.update(len(chunk))
                failures += _enter(ledger, stamps, made_by, chunk, texts)
        forgotten = ledger.keep(lambda id: id in stamps and ledger.holds(id, stamps[id], made_by))
    write_failures(failures_path(Path(out)), failures)
    return Outcome(len(todo) - len(failures), kept, tuple(forgotten), tuple(failures))


def _singly(chunk: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    return ((id,) for id in chunk)


def _read_chunk(images: ImageSource, settings: OcrSettings, ids: Sequence[str]) -> list[str | Failure]:
    # Threads of several tesseracts wait for each other: with two on two cores a page took 6.0 s of processor time,
    # and 1.6 s with one thread each.
    os.environ.setdefault(_THREADS, "1")
    return [_read(images, settings, id) for id in ids]


def _read(images: ImageSource, settings: OcrSettings, id: str) -> str | Failure:
    import pytesseract

    file, page = place_of(id)
    try:
        image = images.read(id)
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
    stamps: Mapping[str, str],
    made_by: str,
    chunk: Sequence[str],
    texts: Sequence[str | Failure] | Crashed,
) -> list[Failure]:
    """Add the texts of a chunk to the ledger; its failures."""
    if isinstance(texts, Crashed):
        return [Failure(*place_of(id), "crash", "the process that read it was killed") for id in chunk]
    read = [(id, text) for id, text in zip(chunk, texts, strict=True) if isinstance(text, str)]
    ledger.add(_record(id, text, stamps[id], made_by) for id, text in read)
    return [text for text in texts if isinstance(text, Failure)]


def _record(id: str, text: str, stamp: str, made_by: str) -> dict[str, Any]:
    file, page = place_of(id)
    return {"id": id, "file": file, "page": page, "text": text, "stamp": stamp, "made_by": made_by}
