"""Images by id, and the one way an image file is read.

An image comes out as 8-bit RGB, upright, first frame only:

- EXIF orientation is applied; a broken EXIF block counts as none.
- Transparency is composed on **white** (dropping it, as `convert("RGB")` does, shows whatever colour lies
  under transparent pixels, mostly black).
- 16-bit grey keeps its upper 8 bits, as Pillow does for 16-bit colour. Floating point and 32-bit integers are
  refused: nothing says which value is white.
- More than `MAX_PIXELS` are refused before they are decoded.

Files are decoded in full. A JPEG decoder can also shrink by 2, 4 or 8 while it decodes, several times faster,
but the pixels (and so the vectors) are then others: published preprocessings do not do that.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from mmret.errors import InputError

MAX_PIXELS = 178_956_970
"""The largest image that is decoded, in pixels (half a gigabyte of RGB; Pillow warns at half as many)."""

SUFFIXES = frozenset({
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm",
    ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
})  # fmt: skip
"""Which files of a folder are images, by the end of their name (any case)."""

_ORIENTATION = 0x0112
_TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageSource(Protocol):
    """A gallery: something that reads an image by its id. It is pickled into worker processes."""

    @property
    def ids(self) -> Sequence[str]:
        """All ids, unique, in a fixed order."""
        ...

    def read(self, id: str) -> Image.Image:
        """Return the image, RGB; raises `InputError` that names the image and the cause."""
        ...

    def stamp(self, id: str) -> str:
        """Return a short text that changes when the image changes (cheap: no decoding)."""
        ...


class GalleryImages(ImageSource, Protocol):
    """The images that annotations name, whether or not they are there."""

    def missing(self, ids: Iterable[str]) -> list[str]:
        """Which of these are not there."""
        ...

    def place(self, id: str) -> str:
        """Where an image was looked for."""
        ...


class FolderImages:
    """The image files under a folder, at any depth; ids are paths relative to it, with "/", sorted.

    Files and folders whose names begin with a dot are passed over. Raises `InputError` if there is no image.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise InputError(f"the image folder {self.root} does not exist.")
        self._ids = sorted(_image_files(self.root))
        if not self._ids:
            raise InputError(f"no images under {self.root} (files ending in {' '.join(sorted(SUFFIXES))}).")

    @property
    def ids(self) -> Sequence[str]:
        """Relative POSIX paths, sorted."""
        return self._ids

    def read(self, id: str) -> Image.Image:
        """Return the image, RGB; raises `InputError`."""
        return read_image(self.root / id)

    def stamp(self, id: str) -> str:
        """Return the file's size in bytes and modification time in nanoseconds; raises `InputError`."""
        return file_stamp(self.root / id)


class FileImages:
    """Images by id, each a file of its own: galleries whose annotations say where every image lies."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self.paths = paths

    @property
    def ids(self) -> Sequence[str]:
        """All ids, in the order of the annotations, whether or not their files are there."""
        return tuple(self.paths)

    def read(self, id: str) -> Image.Image:
        """Return the image, RGB; raises `InputError`."""
        return read_image(self.paths[id])

    def stamp(self, id: str) -> str:
        """Return the file's size in bytes and modification time in nanoseconds; raises `InputError`."""
        return file_stamp(self.paths[id])

    def place(self, id: str) -> str:
        """The image's file."""
        return str(self.paths[id])

    def missing(self, ids: Iterable[str]) -> list[str]:
        """Which of these have no file; every folder is listed once, which is quick for a hundred thousand."""
        listed: dict[Path, frozenset[str]] = {}
        missing = []
        for id in ids:
            path = self.paths[id]
            if path.parent not in listed:
                listed[path.parent] = _names(path.parent)
            if path.name not in listed[path.parent]:
                missing.append(id)
        return missing


def images_by_stem(*folders: Path) -> dict[str, Path]:
    """The image files that lie in these folders themselves, by name without suffix; absent folders hold none."""
    found: dict[str, Path] = {}
    for folder in folders:
        for name in sorted(_names(folder)):
            if Path(name).suffix.lower() in SUFFIXES:
                found.setdefault(Path(name).stem, folder / name)
    return found


def _names(folder: Path) -> frozenset[str]:
    return frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()


def file_stamp(path: Path) -> str:
    """A file's size in bytes and modification time in nanoseconds; raises `InputError`."""
    try:
        stat = path.stat()
    except OSError as error:
        raise InputError(f"the image {path} cannot be read ({error.strerror}).") from error
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def read_image(path: str | Path, *, frame: int = 0) -> Image.Image:
    """Return an image file as 8-bit RGB, upright: see this module's text for the rules.

    `frame` is for files that hold several, such as the pages of a TIFF. Raises `InputError` that names the file and
    the cause: missing, empty, no image, truncated, too large, a pixel format without a defined white.
    """
    path = Path(path)
    _require_bytes(path)
    return _decoded(path, str(path), frame)


def read_image_bytes(content: bytes, name: str) -> Image.Image:
    """As `read_image`, of an image file that is in memory; `name` says in messages which."""
    if not content:
        raise InputError(f"the image {name} is empty.")
    return _decoded(BytesIO(content), name, 0)


def _decoded(source: Path | BytesIO, name: str, frame: int) -> Image.Image:
    try:
        return _decode(source, name, frame)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{name} is no image of a format that is known here.") from error
    except Image.DecompressionBombError as error:
        raise InputError(_too_large(name)) from error
    except Exception as error:  # on damaged files decoders raise anything, from struct.error to KeyError
        raise InputError(f"the image {name} is damaged ({error or type(error).__name__}).") from error


def _require_bytes(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"the image {path} cannot be read ({error.strerror}).") from error
    if path.is_dir():
        raise InputError(f"{path} is a folder, not an image.")
    if size == 0:
        raise InputError(f"the image {path} is an empty file.")


def _decode(source: Path | BytesIO, name: str, frame: int) -> Image.Image:
    with Image.open(source) as image:
        if frame:
            image.seek(frame)
        if image.width * image.height > MAX_PIXELS:
            raise InputError(_too_large(name))
        return upright_rgb(image, name)


def upright_rgb(image: Image.Image, name: str) -> Image.Image:
    """An opened image as this module has it: 8-bit RGB, upright, transparency on white.

    Raises `InputError` for a pixel format without a defined white; `name` says in the message which image.
    """
    image.load()
    turn = _TURNS.get(_orientation(image))
    rgb = _rgb(image, name)
    return rgb if turn is None else rgb.transpose(turn)


def _orientation(image: Image.Image) -> object:
    """Return EXIF's orientation, 1 (upright) where there is none that can be read."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken EXIF block does not make the picture unusable
        return 1


def _rgb(image: Image.Image, name: str) -> Image.Image:
    """Return the loaded image in RGB; what has more than 8 bits, or transparency, takes its own way."""
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep_grey(image, name)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_deep_grey(image: Image.Image, name: str) -> Image.Image:
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 0xFFFF:
        raise InputError(f"the image {name} has pixels beyond 16 bits: nothing says which value is white.")
    return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")


def _too_large(name: str) -> str:
    return f"the image {name} has more than {MAX_PIXELS:,} pixels: shrink it first."


def _image_files(root: Path) -> list[str]:
    found = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                found.append(Path(folder, name).relative_to(root).as_posix())
    return found
