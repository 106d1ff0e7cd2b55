"""PDFs through PDFium: opened with the cause of every failure, drawn and read page by page.

PDFium is not thread-safe: whatever touches it here holds `LOCK`. Processes are what draws in parallel.
"""

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pypdfium2
import pypdfium2.raw as pdfium
from PIL import Image

from mmret.pages.documents import require_file
from mmret.pages.failures import PageError
from mmret.pages.settings import RenderSettings

LOCK = threading.RLock()

_EDGE = 1024  # the header and the end mark lie within so many bytes of the ends (PDF 1.7, appendix H)
_FLAGS = pdfium.FPDF_ANNOT | pdfium.FPDF_REVERSE_BYTE_ORDER
_WHITE = (255, 255, 255, 255)


def _new_lock() -> None:
    """A forked process may have been born while another thread of its parent held the lock."""
    global LOCK
    LOCK = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


def version() -> str:
    """The versions of the binding and of PDFium itself."""
    return f"pypdfium2 {pypdfium2.PYPDFIUM_INFO.tag} (PDFium {pypdfium2.PDFIUM_INFO.build})"


def load_pdf(path: Path, password: str | None = None) -> pypdfium2.PdfDocument:
    """Open a PDF; the caller holds `LOCK` and closes it.

    A file that has lost its end is refused although PDFium would often repair it: pages would be blank or short,
    and nothing would say so.

    Raises:
        PageError: missing, unreadable, empty, not a PDF, truncated, damaged, encrypted, wrong password.
    """
    _require_whole(path, require_file(path).st_size)
    # Not by PdfDocument(path): of a file without pages that reports the error of an earlier file.
    handle = pdfium.FPDF_LoadDocument(os.fsencode(path) + b"\0", (password or "").encode() + b"\0")
    if not handle:
        raise _refusal(path, pdfium.FPDF_GetLastError(), password)
    document = pypdfium2.PdfDocument(handle)
    if len(document) < 1:
        document.close()
        raise _refusal(path, None, password)
    try:
        document.init_forms()  # or filled-in fields would not be drawn
    except pypdfium2.PdfiumError as error:
        document.close()
        raise PageError("damaged", f"PDFium cannot read the forms of {path}") from error
    return document


@contextmanager
def open_pdf(path: Path, password: str | None = None) -> Iterator[pypdfium2.PdfDocument]:
    """Within: a PDF, with `LOCK` held; raises `PageError` as `load_pdf`."""
    with LOCK:
        document = load_pdf(path, password)
        try:
            yield document
        finally:
            document.close()


def _require_whole(path: Path, size: int) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(_EDGE)
            file.seek(max(0, size - 4 * _EDGE))
            tail = file.read().rstrip(b"\0 \t\r\n")[-_EDGE:]
    except OSError as error:
        raise PageError("unreadable", f"{path}: {error.strerror}") from error
    if b"%PDF-" not in head:
        raise PageError("not a PDF", f"{path} does not begin like a PDF")
    if b"%%EOF" not in tail:
        raise PageError("truncated", f"{path} has no end: fetch it again, or have it repaired")


def _refusal(path: Path, code: int | None, password: str | None) -> PageError:
    if code == pdfium.FPDF_ERR_PASSWORD and password is None:
        return PageError("encrypted", f"{path} needs a password: give --password or --passwords")
    if code == pdfium.FPDF_ERR_PASSWORD:
        return PageError("wrong password", f"the password does not open {path}")
    if code == pdfium.FPDF_ERR_SECURITY:
        return PageError("encrypted", f"{path} is encrypted in a way that PDFium does not know")
    return PageError("damaged", f"PDFium finds no pages in {path}")


def page_size(document: pypdfium2.PdfDocument, number: int) -> tuple[float, float]:
    """Width and height in points, without reading the page's content; raises `PageError`: null page, damaged."""
    try:
        width, height = document.get_page_size(number)
    except pypdfium2.PdfiumError as error:
        raise _no_page(number) from error
    if not all(0 < side < math.inf for side in (width, height)):
        raise PageError(
            "damaged", f"the page is {width:g} x {height:g} points (a crop box outside the page?)"
        )
    return width, height


def _no_page(number: int) -> PageError:
    return PageError("null page", f"the page tree counts a page {number} (from 0) that is not there")


@contextmanager
def open_page(document: pypdfium2.PdfDocument, number: int) -> Iterator[pypdfium2.PdfPage]:
    """Within: one page, closed afterwards; raises `PageError`: null page."""
    try:
        page = document[number]
    except pypdfium2.PdfiumError as error:
        raise _no_page(number) from error
    try:
        yield page
    finally:
        page.close()


def draw_page(document: pypdfium2.PdfDocument, number: int, settings: RenderSettings) -> Image.Image:
    """Draw one page on white, with annotations and filled-in forms: RGB, uint8.

    Raises:
        PageError: null page, damaged, too large.
    """
    width, height = settings.page_pixels(*page_size(document, number))
    with open_page(document, number) as page:
        # PDFium writes RGB itself: turning BGR around afterwards takes longer than drawing the page.
        bitmap = pypdfium2.PdfBitmap.new_native(width, height, pdfium.FPDFBitmap_BGR, rev_byteorder=True)
        try:
            bitmap.fill_rect(_WHITE, 0, 0, width, height)
            arguments = (bitmap, page, 0, 0, width, height, 0, _FLAGS)
            pdfium.FPDF_RenderPageBitmap(*arguments)
            if document.formenv:
                pdfium.FPDF_FFLDraw(document.formenv, *arguments)
            image: Image.Image = bitmap.to_pil()  # a copy
            return image
        finally:
            bitmap.close()


def page_text(document: pypdfium2.PdfDocument, number: int) -> str:
    r"""The text layer of one page, lines ended by "\n", words joined that a hyphen broke at a line's end.

    Raises:
        PageError: null page, damaged.
    """
    with open_page(document, number) as page:
        try:
            layer = page.get_textpage()
            try:
                text: str = layer.get_text_bounded()
            finally:
                layer.close()
        except pypdfium2.PdfiumError as error:
            raise PageError("damaged", "PDFium cannot read the page's text") from error
    # PDFium joins what a hyphen broke at a line's end, and leaves a mark there: U+0002, or U+FFFE.
    text = text.replace("\x02", "").replace("\ufffe", "")
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()
