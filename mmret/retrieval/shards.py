"""The files of an embedding store: its manifest, and each shard's vectors and list of ids."""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mmret.atomic import TEMPORARY_SUFFIX, atomic_write
from mmret.errors import InputError

MANIFEST = "store.json"
FORMAT = 1

Stored: TypeAlias = NDArray[np.floating[Any]]

_ABANDONED_AFTER_S = 3600.0  # a file that belongs to no shard and is older was left by a killed writer


@dataclass(frozen=True)
class Entry:
    """Where one id's vectors stand, and the stamp (size and time of a file, say) they were made from.

    They are `count` rows from `row` on; one, unless the id has several vectors.
    """

    shard: str
    row: int
    stamp: str | None
    count: int = 1


def create_manifest(folder: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """Make the folder a store. One that holds anything is refused: no folder of photos becomes a store."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Cannot make the folder {folder}: {error.strerror}; choose another.") from error
    others = sorted(file.name for file in folder.iterdir() if file.suffix != TEMPORARY_SUFFIX)
    if MANIFEST in others:  # another process was faster
        return agreed_manifest(folder, wanted)
    if others:
        raise InputError(f"{folder} is no embedding store and holds {others[0]!r}: choose a new folder.")
    write_json(folder / MANIFEST, wanted)
    return wanted


def agreed_manifest(folder: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """The manifest on disk if it agrees with the wanted one; a width that only one of them knows counts.

    Raises:
        InputError: another format, fingerprint, dtype or width.
    """
    held = _read_json(folder / MANIFEST)
    if held.get("format") != FORMAT or held.keys() != wanted.keys():
        raise InputError(f"{folder} is no store of format {FORMAT}: delete it and embed again.")
    differing = _differences(held["fingerprint"], wanted["fingerprint"])
    if differing:
        raise InputError(f"{folder} was made with {differing}: choose another folder or delete it.")
    width = held["width"] or wanted["width"]
    if (held["dtype"], width) != (wanted["dtype"], wanted["width"] or width):
        raise InputError(
            f"{folder} keeps {held['dtype']} vectors {width} wide, not {wanted['dtype']} ones "
            f"{wanted['width'] or width} wide: choose another folder or delete it."
        )
    return {**held, "width": width}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic_write(path) as handle:
        handle.write(json.dumps(content).encode())


def write_vectors(path: Path, rows: Stored) -> None:
    """Write a .npy file, whole or not at all."""
    with atomic_write(path) as handle:
        np.lib.format.write_array(handle, rows, allow_pickle=False)


def write_entries(folder: Path, shard: str, entries: Mapping[str, Entry]) -> None:
    """Write a shard's list, which makes the shard exist; with no entries, delete the shard."""
    if entries:
        rows = [entry.row for entry in entries.values()]
        stamps = [entry.stamp for entry in entries.values()]
        counts = [entry.count for entry in entries.values()]
        several = {"counts": counts} if set(counts) != {1} else {}
        write_json(
            folder / f"{shard}.json", {"ids": list(entries), "rows": rows, "stamps": stamps, **several}
        )
        return
    # The list goes first: vectors without a list are no shard.
    (folder / f"{shard}.json").unlink(missing_ok=True)
    (folder / f"{shard}.npy").unlink(missing_ok=True)


def read_entries(listing: Path) -> dict[str, Entry]:
    """One shard's entries, after checking that its vectors are all there."""
    content = _read_json(listing)
    shard = listing.stem
    try:
        counts = content.get("counts") or [1] * len(content["ids"])
        columns = zip(content["ids"], content["rows"], content["stamps"], counts, strict=True)
        entries = {name: Entry(shard, int(row), stamp, int(count)) for name, row, stamp, count in columns}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{listing} is damaged ({error!r}): delete the store and embed again.") from error
    held = len(mapped(listing.with_suffix(".npy")))
    if any(entry.row + entry.count > held for entry in entries.values()):
        raise InputError(f"{listing.with_suffix('.npy')} is too short: delete the store and embed again.")
    return entries


def mapped(path: Path) -> Stored:
    """A shard's vectors [m, D] as a read-only memory map.

    Maps are made anew for each use: each holds a file descriptor, of which a process has few.
    """
    try:
        vectors: Stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}): delete the store and embed again.") from error
    return vectors


def delete_abandoned(folder: Path) -> None:
    """Delete what a killed writer left, temporary files and vectors without a list, unless it is recent."""
    oldest = time.time() - _ABANDONED_AFTER_S
    orphans = [file for file in folder.glob("*-*.npy") if not file.with_suffix(".json").exists()]
    for file in [*folder.glob(f".*{TEMPORARY_SUFFIX}"), *orphans]:
        with suppress(FileNotFoundError):  # another process finishes or deletes it meanwhile
            if file.stat().st_mtime < oldest:
                file.unlink()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}): delete the store and embed again.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged (no object): delete the store and embed again.")
    return content


def _differences(held: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    keys = sorted(key for key in held.keys() | wanted.keys() if held.get(key) != wanted.get(key))
    return ", ".join(f"{key} {held.get(key)!r} not {wanted.get(key)!r}" for key in keys)
