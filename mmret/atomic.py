"""Files that are either whole or absent."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mmret.errors import InputError

TEMPORARY_SUFFIX = ".tmp"


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for writing so that it appears whole or not at all.

    Bytes go to a hidden temporary file in the same folder, reach the disk (`fsync`) and take their name with
    `os.replace`. On any exception the temporary file is deleted and whatever stood at `path` stays.

    Raises:
        InputError: the file cannot be written (full disk, missing permission, quota).
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        with temporary.open("wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f"Cannot write {path}: {error.strerror or error}; nothing there was changed, "
            "so mend that (free space, permission) and run the same command again."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, unless it is there.

    Raises:
        InputError: it cannot be made (a file stands in its place, missing permission, full disk).
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"Cannot make the folder {path}: {error.strerror or error}; mend that, or name another place."
        ) from error


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all, with the folders above it. Raises `InputError` as `atomic_write`."""
    path = Path(path)
    make_folder(path.parent)
    with atomic_write(path) as handle:
        handle.write(text.encode())
