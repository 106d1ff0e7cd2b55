"""Pages as an `ImageSource`: drawn on demand from the documents, or read from a folder of rendered pages."""

import atexit
import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import pypdfium2
from PIL import Image

from mmret.data import records
from mmret.data.images import read_image
from mmret.errors import InputError
from mmret.pages import pdf
from mmret.pages.documents import (
    MANIFEST,
    Document,
    Passwords,
    file_stamp,
    list_documents,
    page_id,
    split_page_id,
)
from mmret.pages.failures import Failure, PageError
from mmret.pages.renderers import renderer_of
from mmret.pages.settings import RenderSettings

_OPEN_DOCUMENTS = 4
CACHE_BYTES = 64_000_000
"""Page images that `DocumentPages` keeps, in bytes of RGB."""

_SOURCES: "weakref.WeakSet[DocumentPages]" = weakref.WeakSet()
"""All that may have documents open."""

Key = TypeVar("Key")
Value = TypeVar("Value")


class _Recent(Generic[Key, Value]):
    """What was used last, up to a total size; the oldest goes first, and is closed."""

    def __init__(self, limit: int, size: Callable[[Value], int], close: Callable[[Value], object]) -> None:
        self._limit, self._size, self._close = limit, size, close
        self._held: OrderedDict[Key, Value] = OrderedDict()
        self._total = 0

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """What is held under a key, made if it is not; something larger than the limit is not held."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        value = make()
        if self._size(value) <= self._limit:
            self._held[key] = value
            self._total += self._size(value)
            while self._total > self._limit:
                _, oldest = self._held.popitem(last=False)
                self._total -= self._size(oldest)
                self._close(oldest)
        return value

    def close(self) -> None:
        """Close all that is held."""
        while self._held:
            self._close(self._held.popitem()[1])
        self._total = 0


class DocumentPages:
    """The pages of the documents under a folder, drawn when they are read; an `ImageSource` without image files.

    Ids are `file#page`, in the order of files and pages. A few documents stay open and the last images are kept, up
    to `cache_bytes`. Stamps are those of the same pages in a rendered folder, so that one embedding store serves
    both.

    `only` are files below the folder to take instead of all.

    Attributes:
        root: The folder.
        failures: Documents that cannot be opened, with their causes; they have no ids.

    Raises:
        InputError: there is no page at all; the renderer's program is not installed.
    """

    def __init__(
        self,
        root: str | Path,
        settings: RenderSettings | None = None,
        *,
        only: Sequence[str] | None = None,
        passwords: Passwords | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        listing = list_documents(root, only=only)
        self.root = listing.root
        self.settings = settings or RenderSettings()
        self.passwords = passwords or Passwords()
        self._cache_bytes = cache_bytes
        self._documents = {document.file: document for document in listing.documents}
        kinds = {document.kind for document in listing.documents}
        self._made_by = {kind: renderer_of(kind, self.settings).fingerprint() for kind in kinds}
        self.failures = list(listing.failures)
        self._ids = [id for document in listing.documents for id in self._pages_of(document)]
        if not self._ids:
            raise InputError(f"no page under {self.root} can be read: {self.failures[0]}")
        self._forget()

    def _pages_of(self, document: Document) -> list[str]:
        renderer = renderer_of(document.kind, self.settings)
        try:
            count = renderer.count(self.root / document.file, self.passwords.of(document.file))
        except PageError as error:
            self.failures.append(Failure.of(document.file, None, error))
            return []
        return [page_id(document.file, number) for number in range(count)]

    @property
    def ids(self) -> Sequence[str]:
        """All pages, `file#page`."""
        return self._ids

    def stamp(self, id: str) -> str:
        """Size and time of the document, and what draws it; raises `InputError`."""
        document = self._document(id)
        return f"{file_stamp(self.root / document.file)} {self._made_by[document.kind]}"

    def read(self, id: str) -> Image.Image:
        """Draw the page, RGB, or return its kept image (not to be changed); raises `PageError`."""
        with pdf.LOCK:
            if self._process != os.getpid():  # forked: open files of the parent are left alone
                self._forget()
            return self._images.get((id, self.stamp(id)), lambda: self._draw(id))

    def close(self) -> None:
        """Close the documents that this process has open; they open again when a page is read."""
        with pdf.LOCK:
            if self._process == os.getpid():
                self._open.close()

    def _draw(self, id: str) -> Image.Image:
        document, number = self._document(id), split_page_id(id)[1]
        path, password = self.root / document.file, self.passwords.of(document.file)
        try:
            if document.kind == "pdf" and self.settings.renderer == "pypdfium2":
                opened = self._open.get((path, file_stamp(path)), lambda: pdf.load_pdf(path, password))
                return pdf.draw_page(opened, number, self.settings)
            [(_, drawn)] = renderer_of(document.kind, self.settings).pages(path, [number], password)
            if isinstance(drawn, PageError):
                raise drawn
            return drawn
        except PageError as error:
            raise PageError(error.cause, f"the page {id} cannot be drawn: {error}.") from error

    def _document(self, id: str) -> Document:
        file, _ = split_page_id(id)
        if file not in self._documents:
            raise InputError(f"there is no document {file} under {self.root}.")
        return self._documents[file]

    def _forget(self) -> None:
        """Begin with empty caches, in this process."""
        self._process = os.getpid()
        self._images: _Recent[tuple[str, str], Image.Image] = _Recent(
            self._cache_bytes, lambda image: 3 * image.width * image.height, lambda _: None
        )
        self._open: _Recent[tuple[Path, str], pypdfium2.PdfDocument] = _Recent(
            _OPEN_DOCUMENTS, lambda _: 1, lambda document: document.close()
        )
        _SOURCES.add(self)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in {"_images", "_open"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()


@atexit.register
def _close_documents() -> None:
    """Close what is open at a program's end: pypdfium2 would complain of it while it does so."""
    for pages in list(_SOURCES):
        pages.close()


class RenderedPages:
    """The pages that `render_documents` drew into a folder; an `ImageSource`. Raises `InputError` if there are none."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        manifest = self.root / MANIFEST
        if not manifest.is_file():
            raise InputError(f"{self.root} is no folder of rendered pages; `mmret pages render` makes one.")
        self._pages = {
            records.field(record, "id", str, where): (
                records.field(record, "image", str, where),
                f"{record.get('stamp')} {record.get('made_by')}",
                records.field(record, "pages", int, where),
            )
            for where, record in records.read_json_lines(manifest)
        }
        if not self._pages:
            raise InputError(f"{manifest} names no page.")

    @property
    def ids(self) -> Sequence[str]:
        """All pages, `file#page`, sorted by file and page."""
        return tuple(self._pages)

    def read(self, id: str) -> Image.Image:
        """Read the page's image, RGB; raises `InputError`."""
        return read_image(self.path(id))

    def path(self, id: str) -> Path:
        """The page's image file; raises `InputError`."""
        return self.root / self._page(id)[0]

    def stamp(self, id: str) -> str:
        """Size and time of the document, and what drew it; raises `InputError`."""
        return self._page(id)[1]

    def pages(self, id: str) -> int:
        """The number of pages of the document that this one belongs to; raises `InputError`."""
        return self._page(id)[2]

    def _page(self, id: str) -> tuple[str, str, int]:
        if id not in self._pages:
            raise InputError(f"there is no page {id} in {self.root}.")
        return self._pages[id]
