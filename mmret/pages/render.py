"""A folder of documents → a folder of page images with a manifest; killed runs go on where they stopped.

Layout of the output folder:

    manifest.jsonl       a line a page, sorted: id, file, page (from 0), pages, image, width, height, stamp, made_by
    failures.jsonl       a line a file or page that failed: file, page (or null), cause, message
    a/b.pdf/0003.png     page 3 of a/b.pdf
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from mmret.atomic import TEMPORARY_SUFFIX, atomic_write, make_folder
from mmret.data.cores import usable_cores
from mmret.errors import InputError
from mmret.pages.documents import MANIFEST, Document, Kind, Listing, Passwords, page_id, split_page_id
from mmret.pages.failures import PageError, write_failures
from mmret.pages.ledger import Ledger
from mmret.pages.processing import Outcome, process
from mmret.pages.renderers import renderer_of
from mmret.pages.settings import ImageFormat, RenderSettings

FAILURES = "failures.jsonl"
_SUFFIXES: dict[ImageFormat, str] = {"png": ".png", "jpeg": ".jpg"}
_PNG_LEVEL = 1
"""zlib's fastest: on pages of text at 200 dpi files were no larger than at Pillow's 6, and took .6 of the time."""


def image_name(id: str, format: ImageFormat) -> str:
    """Where a page's image lies below the output folder."""
    file, page = split_page_id(id)
    return f"{file}/{page:04d}{_SUFFIXES[format]}"


def save_image(image: Image.Image, path: Path, settings: RenderSettings) -> None:
    """Write one page, whole or not at all, and delete an image of it in the other format."""
    make_folder(path.parent)
    options = {"compress_level": _PNG_LEVEL} if settings.format == "png" else {"quality": settings.quality}
    with atomic_write(path) as file:
        image.save(file, settings.format, **options)
    for suffix in _SUFFIXES.values():
        if suffix != path.suffix:
            path.with_suffix(suffix).unlink(missing_ok=True)


@dataclass(frozen=True)
class Rendering:
    """The job of `render_documents`."""

    settings: RenderSettings
    out: Path

    def fingerprint(self, kind: Kind) -> str:
        """The renderer's, with its settings."""
        return renderer_of(kind, self.settings).fingerprint()

    def chunk(self, kind: Kind) -> int:
        """As many pages as the renderer likes at a time."""
        return renderer_of(kind, self.settings).chunk

    def count(self, path: Path, kind: Kind, password: str | None) -> int:
        """The renderer's count."""
        return renderer_of(kind, self.settings).count(path, password)

    def pages(
        self, path: Path, document: Document, numbers: Sequence[int], password: str | None
    ) -> Iterator[tuple[int, dict[str, Any] | PageError]]:
        """Draw and write page after page."""
        for number, drawn in renderer_of(document.kind, self.settings).pages(path, numbers, password):
            if isinstance(drawn, PageError):
                yield number, drawn
                continue
            name = image_name(page_id(document.file, number), self.settings.format)
            save_image(drawn, self.out / name, self.settings)
            yield number, {"image": name, "width": drawn.width, "height": drawn.height}

    def is_there(self, id: str) -> bool:
        """Whether the page's image is."""
        return (self.out / image_name(id, self.settings.format)).is_file()

    def discard(self, ids: Sequence[str]) -> None:
        """Delete the pages' images, in either format, and folders that this leaves empty."""
        for id in ids:
            images = [self.out / image_name(id, format) for format in _SUFFIXES]
            for image in images:
                image.unlink(missing_ok=True)
            folder = images[0].parent
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def render_documents(
    listing: Listing,
    out: str | Path,
    settings: RenderSettings | None = None,
    *,
    passwords: Passwords | None = None,
    workers: int | None = None,
) -> Outcome:
    """Draw all pages of a folder's documents into a folder of images, with a manifest and a list of failures.

    Drawn is only what is missing there, or was made of another state of a document, by another renderer or at another
    size; the old images of these go first. Memory does not grow with the number of pages. Images of pages that are gone
    are deleted.

    Args:
        listing: The documents, of `list_documents`.
        out: The folder to write; see this module's text.
        settings: Renderer, size and format.
        passwords: Of encrypted PDFs.
        workers: Processes (by default one a core); 0 draws in this one.

    Raises:
        InputError: the folder cannot be written or is being written; the renderer's program is not installed.
    """
    out = Path(out)
    if out.resolve() == listing.root.resolve():
        raise InputError(f"pages of {listing.root} cannot be written into the folder itself; name another.")
    job = Rendering(settings or RenderSettings(), out)
    with Ledger(out / MANIFEST) as manifest:
        for left_by_a_kill in out.rglob(f".[0-9]*{TEMPORARY_SUFFIX}"):
            left_by_a_kill.unlink(missing_ok=True)
        outcome = process(
            job,
            listing,
            manifest,
            passwords=passwords or Passwords(),
            workers=usable_cores() if workers is None else workers,
            label="rendering",
        )
    write_failures(out / FAILURES, outcome.failures)
    return outcome
