"""What draws pages: PDFium or poppler for PDFs, Pillow for images, Chromium for HTML, all of one form."""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import pdf2image
import PIL
from pdf2image import exceptions as poppler_errors
from PIL import Image

from mmret.data.images import read_image
from mmret.errors import InputError
from mmret.pages import html, pdf
from mmret.pages.documents import Kind, require_file
from mmret.pages.failures import PageError
from mmret.pages.settings import RenderSettings

_POPPLER_SECONDS = 300

Drawn = Iterator[tuple[int, Image.Image | PageError]]


class Renderer(Protocol):
    """Draws the pages of one kind of document; pages count from 0.

    Attributes:
        chunk: So many pages at a time are worth a task of their own.
    """

    chunk: int

    def fingerprint(self) -> str:
        """Names and versions of all that decides the pixels, and the settings."""
        ...

    def count(self, path: Path, password: str | None = None) -> int:
        """The number of pages; raises `PageError` that names why there are none."""
        ...

    def pages(self, path: Path, numbers: Sequence[int], password: str | None = None) -> Drawn:
        """Each page with its RGB image or its error; raises `PageError` for the whole file."""
        ...


class PdfiumPages:
    """PDFs by PDFium, one page at a time."""

    chunk = 32

    def __init__(self, settings: RenderSettings) -> None:
        self.settings = settings

    def fingerprint(self) -> str:
        """Binding, PDFium and settings."""
        return f"{pdf.version()}, {self.settings}"

    def count(self, path: Path, password: str | None = None) -> int:
        """The pages that the document counts, drawable or not; raises `PageError`."""
        with pdf.open_pdf(path, password) as document:
            return len(document)

    def pages(self, path: Path, numbers: Sequence[int], password: str | None = None) -> Drawn:
        """One page in memory at a time; raises `PageError` for the whole file."""
        with pdf.open_pdf(path, password) as document:
            for number in numbers:
                try:
                    yield number, pdf.draw_page(document, number, self.settings)
                except PageError as error:
                    yield number, error


class PopplerPages:
    """PDFs by poppler's pdftoppm through pdf2image, eight pages a call.

    Causes of failure come from PDFium, which tells them apart. Poppler passes over null pages without a word, and
    gives the pages behind them too low a number: null pages are found beforehand, the numbers put right, and the
    images of every call counted. The pages of a call that fails are drawn one by one.
    """

    chunk = 8

    def __init__(self, settings: RenderSettings) -> None:
        if shutil.which("pdftoppm") is None or shutil.which("pdfinfo") is None:
            raise InputError(
                "the renderer pdf2image needs poppler's pdftoppm and pdfinfo, which are not installed "
                "(Debian: poppler-utils); install them, or use the renderer pypdfium2."
            )
        self.settings = settings

    def fingerprint(self) -> str:
        """Binding, poppler and settings."""
        return f"pdf2image {_poppler_version()}, {self.settings}"

    def count(self, path: Path, password: str | None = None) -> int:
        """The pages that PDFium and poppler both count; raises `PageError`, also where they differ."""
        with pdf.open_pdf(path, password) as document:
            count = len(document)
        info = _asking_poppler(pdf2image.pdfinfo_from_path, path, password)
        if info["Pages"] != count:
            raise PageError("page count", f"PDFium counts {count} pages in {path}, poppler {info['Pages']}")
        return count

    def pages(self, path: Path, numbers: Sequence[int], password: str | None = None) -> Drawn:
        """At most a chunk in memory at a time; raises `PageError` for the whole file."""
        numbered = self._poppler_numbers(path, numbers, password)
        yield from ((number, found) for number, found in numbered if isinstance(found, PageError))
        drawable = [(number, found) for number, found in numbered if isinstance(found, int)]
        for _, run in groupby(enumerate(drawable), key=lambda item: item[0] - item[1][1]):
            pages = [page for _, page in run]
            for start in range(0, len(pages), self.chunk):
                yield from self._call(path, pages[start : start + self.chunk], password)

    def _poppler_numbers(
        self, path: Path, numbers: Sequence[int], password: str | None
    ) -> list[tuple[int, int | PageError]]:
        """For each page its number (from 1) in poppler's count, which leaves out null pages, or its error."""
        found: dict[int, int | PageError] = {}
        present = 0
        with pdf.open_pdf(path, password) as document:
            for number in range(max(numbers) + 1):
                found[number] = present + 1
                try:
                    size = pdf.page_size(document, number)
                    if number in numbers:
                        self.settings.page_pixels(*size)
                except PageError as error:
                    found[number] = error
                    if error.cause == "null page":
                        continue
                present += 1
        return [(number, found[number]) for number in numbers]

    def _call(self, path: Path, pages: Sequence[tuple[int, int]], password: str | None) -> Drawn:
        """Draw neighbouring pages in one call; where it fails, one by one: the fault of a page is its own."""
        try:
            images = self._convert(path, pages[0][1], pages[-1][1], password)
        except PageError as error:
            if len(pages) == 1:
                yield pages[0][0], error
            else:
                for page in pages:
                    yield from self._call(path, [page], password)
        else:
            yield from zip((number for number, _ in pages), images, strict=True)

    def _convert(self, path: Path, first: int, last: int, password: str | None) -> list[Image.Image]:
        """The images of poppler's pages `first` to `last`; raises `PageError`."""
        options = {"first_page": first, "last_page": last, **self._size()}
        options["use_cropbox"] = True  # what viewers, and PDFium, show
        images: list[Image.Image] = _asking_poppler(_read_whole, path, password, **options)
        wanted = last - first + 1
        if len(images) != wanted:
            raise PageError("page count", f"poppler drew {len(images)} of {wanted} pages")
        return images

    def _size(self) -> dict[str, object]:
        sizing = self.settings.sizing
        return {"dpi": sizing.dpi} if sizing.dpi else {"size": sizing.size or sizing.longest_side}


@cache
def _poppler_version() -> str:
    told = subprocess.run(["pdftoppm", "-v"], capture_output=True, text=True).stderr
    found = re.search(r"version ([\d.]+)", told)
    return f"{metadata.version('pdf2image')} (poppler {found[1] if found else 'unknown'})"


def _asking_poppler(call: Callable[..., Any], path: Path, password: str | None, **options: object) -> Any:
    """Call pdf2image; its errors become `PageError`."""
    try:
        return call(path, userpw=password, ownerpw=password, timeout=_POPPLER_SECONDS, **options)
    except poppler_errors.PDFPopplerTimeoutError as error:
        raise PageError("timeout", f"poppler took more than {_POPPLER_SECONDS} s for {path}") from error
    except poppler_errors.PDFPageCountError as error:
        raise PageError("damaged", f"poppler cannot read {path}: {' '.join(str(error).split())}") from error
    except (OSError, ValueError) as error:  # of pictures that end early
        raise PageError("damaged", f"poppler did not draw {path} to the end ({error})") from error


def _read_whole(path: Path, **options: Any) -> list[Image.Image]:
    """What poppler draws, with all pixels: of a picture that is cut pdf2image reads the head alone."""
    images: list[Image.Image] = pdf2image.convert_from_path(path, **options)
    for image in images:
        image.load()
    return images


class ImagePages:
    """Image files; a TIFF may have several pages, of every other format the first frame counts."""

    chunk = 8

    def __init__(self, settings: RenderSettings) -> None:
        self.settings = settings

    def fingerprint(self) -> str:
        """Pillow and settings."""
        return f"Pillow {PIL.__version__}, {self.settings}"

    def count(self, path: Path, password: str | None = None) -> int:
        """One, or the frames of a TIFF; raises `PageError`: too large, not an image, damaged and the like."""
        with _header(path) as image:
            frames = int(getattr(image, "n_frames", 1)) if image.format == "TIFF" else 1
            if frames == 1:
                self.settings.image_pixels(*image.size)
        return frames

    def pages(self, path: Path, numbers: Sequence[int], password: str | None = None) -> Drawn:
        """One frame in memory at a time, and none that is too large."""
        for number in numbers:
            try:
                with _header(path) as image:
                    image.seek(number)
                    self.settings.image_pixels(*image.size)
                yield number, self.settings.fit(read_image(path, frame=number))
            except PageError as error:
                yield number, error
            except InputError as error:
                yield number, PageError("damaged", str(error))


@contextmanager
def _header(path: Path) -> Iterator[Image.Image]:
    """Within: an image file with its size, of which no pixel is read; what goes wrong becomes a `PageError`."""
    require_file(path)
    try:
        with Image.open(path) as image:
            yield image
    except PageError:
        raise
    except PIL.UnidentifiedImageError as error:
        raise PageError("not an image", f"{path} is no image of a format that is known here") from error
    except Image.DecompressionBombError as error:
        raise PageError("too large", " ".join(str(error).split())) from error
    except Exception as error:  # on damaged files decoders raise anything
        raise PageError("damaged", f"{path} is damaged ({error or type(error).__name__})") from error


PDF_RENDERERS: dict[str, Callable[[RenderSettings], Renderer]] = {
    "pypdfium2": PdfiumPages,
    "pdf2image": PopplerPages,
}


def renderer_of(kind: Kind, settings: RenderSettings) -> Renderer:
    """The renderer of a kind of documents; raises `InputError` for an unknown name or a missing program."""
    if kind == "image":
        return ImagePages(settings)
    if kind == "html":
        return html.Screenshots(settings)
    if settings.renderer not in PDF_RENDERERS:
        raise InputError(f"no renderer {settings.renderer!r}; there are {', '.join(PDF_RENDERERS)}.")
    return PDF_RENDERERS[settings.renderer](settings)
