"""The documents of a folder, the names of their pages, and the passwords that open them."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from mmret.data import records
from mmret.data.images import SUFFIXES
from mmret.errors import InputError
from mmret.pages.failures import Failure, PageError

Kind = Literal["pdf", "image", "html"]

_KINDS: dict[str, Kind] = {".pdf": "pdf", ".html": "html", ".htm": "html"}
_KINDS |= dict.fromkeys(SUFFIXES, "image")

MANIFEST = "manifest.jsonl"
"""A folder that holds this file is one of rendered pages: its images are no documents."""


_OWN_MARK = b'<meta name="generator" content="mmret">'
_HEAD = 512
"""The bytes in which pages that we write (galleries, reports) have this mark."""


class Document(NamedTuple):
    """One file: its POSIX path below the folder, what it is by its suffix, and a stamp that changes with it."""

    file: str
    kind: Kind
    stamp: str


def page_id(file: str, page: int) -> str:
    """The name of a page, which counts from 0: `plans/handbook.pdf#3`."""
    return f"{file}#{page}"


def place_of(id: str) -> tuple[str, int | None]:
    """File and page of a page's name; of any other image the whole name, and None."""
    file, mark, page = id.rpartition("#")
    return (file, int(page)) if file and mark and page.isdecimal() else (id, None)


def split_page_id(id: str) -> tuple[str, int]:
    """File and page of a page's name; raises `InputError` if it is none."""
    file, page = place_of(id)
    if page is None:
        raise InputError(f"{id!r} names no page; names look like handbook.pdf#3, with pages from 0.")
    return file, page


def require_file(path: Path) -> os.stat_result:
    """The state of a file with bytes in it; raises `PageError`: missing, unreadable, empty."""
    try:
        state = path.stat()
    except FileNotFoundError:
        raise PageError("missing", f"there is no file {path}") from None
    except OSError as error:
        raise PageError("unreadable", f"{path}: {error.strerror}") from error
    if not path.is_file():
        raise PageError("unreadable", f"{path} is no file")
    if not os.access(path, os.R_OK):
        raise PageError("unreadable", f"{path} may not be read")
    if state.st_size == 0:
        raise PageError("empty", f"{path} has no bytes")
    return state


def file_stamp(path: Path) -> str:
    """Size in bytes and time of modification in nanoseconds; raises `PageError`."""
    state = require_file(path)
    return f"{state.st_size}-{state.st_mtime_ns}"


@dataclass(frozen=True)
class Listing:
    """The documents under a folder, sorted by file; `failures` are files that are there in name only.

    `partial` says that only some files of the folder were asked for.
    """

    root: Path
    documents: tuple[Document, ...]
    failures: tuple[Failure, ...] = ()
    partial: bool = False


def list_documents(
    root: str | Path, *, only: Sequence[str] | None = None, kinds: Collection[Kind] = ("pdf", "image", "html")
) -> Listing:
    """List the PDFs, images and HTML files under a folder at any depth, or one file.

    Passed over are names that begin with a dot, other suffixes, folders of rendered pages, and HTML that we wrote
    ourselves: the gallery of an earlier search is no document.

    Args:
        root: A folder, or a document.
        only: Files below the folder to take instead of all; those that are not there become failures.
        kinds: The kinds to take.

    Raises:
        InputError: there is no such folder, or no document in it; a name in `only` leads out of the folder, or is none
            of a document.
    """
    place = Path(root)
    if not place.is_dir() and _kind(place.name):
        place, only = place.parent, [place.name]
    if not place.is_dir():
        raise InputError(f"{root} is neither a folder nor a PDF, an image or an HTML file.")
    files = sorted(_walk(place) if only is None else {_below(name, place) for name in only})
    documents, failures = [], []
    for file in files:
        kind = _kind(file)
        if kind is None:  # a walk gives none of these
            raise InputError(f"{file} ends like no PDF, image or HTML file.")
        if kind not in kinds or (only is None and kind == "html" and _is_our_own(place / file)):
            continue
        try:
            _require_utf8(file)
            documents.append(Document(file, kind, file_stamp(place / file)))
        except PageError as error:
            failures.append(Failure.of(file, None, error))
    if not documents and not failures:
        raise InputError(f"there is no document ({', '.join(kinds)}) under {place}.")
    return Listing(place, tuple(documents), tuple(failures), only is not None)


def _kind(file: str) -> Kind | None:
    return _KINDS.get(Path(file).suffix.lower())


def _below(name: str, root: Path) -> str:
    """A name as `_walk` would give it (`./a.pdf` is `a.pdf`); raises `InputError` if it leads out of the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise InputError(f"{name} does not lie below {root}: name files relative to the folder, without ..")
    return str(path)


def _require_utf8(file: str) -> None:
    """Records are UTF-8, and so must be the names in them; raises `PageError`: unreadable."""
    try:
        file.encode()
    except UnicodeEncodeError as error:
        raise PageError("unreadable", "the name is not UTF-8: give the file another one") from error


def _is_our_own(page: Path) -> bool:
    try:
        with page.open("rb") as file:
            return _OWN_MARK in file.read(_HEAD)
    except OSError:  # its stamp says why
        return False


def _walk(root: Path) -> Iterator[str]:
    for folder, subfolders, names in os.walk(root):
        if MANIFEST in names:
            subfolders.clear()
            continue
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        yield from (
            Path(folder, name).relative_to(root).as_posix()
            for name in names
            if not name.startswith(".") and _kind(name)
        )


@dataclass(frozen=True)
class Passwords:
    """Passwords of encrypted PDFs: one for each file that is named, another for all the rest."""

    rest: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path, rest: str | None = None) -> "Passwords":
        """Read JSON lines `{"file": "a/b.pdf", "password": "…"}`; raises `InputError`."""
        found = {
            records.field(record, "file", str, where): records.field(record, "password", str, where)
            for where, record in records.read_records(path)
        }
        return cls(rest, found)

    def of(self, file: str) -> str | None:
        """The password to try on a file; None where none is known."""
        return self.files.get(file, self.rest)
