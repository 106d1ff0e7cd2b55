"""Embeddings on disk: the unit of work that survives a kill.

A store is a folder:

    store.json             {"format", "fingerprint", "width", "dtype"}
    000000-1f3a9c42.npy    one shard's vectors [m, D]
    000000-1f3a9c42.json   its {"ids", "rows", "stamps"}: written after the vectors, it makes the shard exist;
                           with "counts" where ids have several vectors each: so many rows from each of "rows" on

Shards are numbered in the order of writing and never change, except that `remove` rewrites a shard's list of
ids. Where two shards hold one id (two writers at once), the later one counts.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from mmret.errors import InputError
from mmret.retrieval.checks import Floats, Integers, checked_ids, checked_vectors
from mmret.retrieval.multi_vectors import MultiVectors, StoredMultiVectors
from mmret.retrieval.shards import (
    FORMAT,
    MANIFEST,
    Entry,
    Stored,
    agreed_manifest,
    create_manifest,
    delete_abandoned,
    mapped,
    read_entries,
    write_entries,
    write_json,
    write_vectors,
)

DTYPES = ("float32", "float16")


class EmbeddingStore:
    """Vectors by id in a folder, made by one backbone: append, resume, map, remove.

    Use `EmbeddingStore.open`. Vectors are kept as the backbone gave them, not normalised, as float32 or
    float16. Any call may be killed at any moment: the store then holds what was there before the call, or
    what the call was to bring.
    """

    def __init__(
        self, path: Path, manifest: dict[str, Any], entries: dict[str, Entry], next_shard: int
    ) -> None:
        self.path = path
        self._manifest = manifest
        self._entries = entries
        self._next_shard = next_shard

    @classmethod
    def open(
        cls,
        path: str | Path,
        fingerprint: Mapping[str, str],
        *,
        width: int | None = None,
        dtype: str = "float32",
    ) -> Self:
        """Create the store at `path`, or resume it.

        Args:
            path: the folder; created with its parents when it is missing.
            fingerprint: what made the vectors (backbone, weights, preprocessing, precision).
            width: D; without it the first `append` decides.
            dtype: "float32", or "float16" for half the space and about three significant digits.

        Raises:
            InputError: the folder holds something else, or a store of another fingerprint, width or dtype;
                a shard is damaged; the folder cannot be written.
        """
        if dtype not in DTYPES:
            raise InputError(f"A store's dtype is one of {', '.join(DTYPES)}, not {dtype!r}.")
        folder = Path(path)
        wanted = {"format": FORMAT, "fingerprint": dict(fingerprint), "width": width, "dtype": dtype}
        exists = (folder / MANIFEST).exists()
        manifest = agreed_manifest(folder, wanted) if exists else create_manifest(folder, wanted)
        delete_abandoned(folder)
        shards = sorted(folder.glob("*-*.json"))
        entries: dict[str, Entry] = {}
        for shard in shards:
            entries.update(read_entries(shard))
        return cls(folder, manifest, entries, int(shards[-1].stem.split("-")[0]) + 1 if shards else 0)

    @property
    def fingerprint(self) -> dict[str, str]:
        """What made the vectors."""
        return dict(self._manifest["fingerprint"])

    @property
    def width(self) -> int | None:
        """D, or None before the first append of a store opened without a width."""
        width: int | None = self._manifest["width"]
        return width

    @property
    def dtype(self) -> str:
        """How vectors are kept on disk: "float32" or "float16"."""
        return str(self._manifest["dtype"])

    @property
    def ids(self) -> tuple[str, ...]:
        """Every id held, in the order of writing."""
        return tuple(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __repr__(self) -> str:
        return f"EmbeddingStore({str(self.path)!r}, {len(self)} x {self.width} {self.dtype})"

    def append(
        self, ids: Iterable[str], vectors: ArrayLike | MultiVectors, stamps: Sequence[str] | None = None
    ) -> None:
        """Write one shard: n ids, their vectors [n, D] or n × several, optionally n stamps. All of it or nothing.

        Raises:
            InputError: an id is already held (`remove` it first), or repeated; another width or count;
                a vector zero, not finite or beyond float16; the disk is full (the store stays as it was).
        """
        names = checked_ids(ids, f"{self.path}")
        self._refuse_held(names)
        counts = self._counts(names, vectors)
        owners = names if counts is None else tuple(np.repeat(np.array(names, dtype=object), counts))
        rows = self._as_stored(owners, vectors.vectors if isinstance(vectors, MultiVectors) else vectors)
        marks = self._aligned(names, stamps)
        if not names:
            return
        self._settle_width(rows.shape[1])
        shard = f"{self._next_shard:06d}-{secrets.token_hex(4)}"
        held = np.ones(len(names), np.int64) if counts is None else counts
        starts = np.cumsum(held) - held
        entries = {
            name: Entry(shard, int(row), mark, int(count))
            for name, row, mark, count in zip(names, starts, marks, held, strict=True)
        }
        write_vectors(self.path / f"{shard}.npy", rows)
        write_entries(self.path, shard, entries)
        self._next_shard += 1
        self._entries.update(entries)

    def missing(self, ids: Iterable[str], stamps: Sequence[str] | None = None) -> list[str]:
        """Those of `ids` that need a vector: not held or, where stamps are given, stamped otherwise.

        Raises:
            InputError: there are not as many stamps as ids.
        """
        names = tuple(ids)
        if stamps is None:
            return [name for name in names if name not in self._entries]
        marks = self._aligned(names, stamps)
        held = (self._entries.get(name) for name in names)
        return [
            name
            for name, mark, entry in zip(names, marks, held, strict=True)
            if entry is None or entry.stamp != mark
        ]

    def remove(self, ids: Iterable[str]) -> None:
        """Forget these ids; those not held are passed over.

        A shard's files are deleted with its last id. One call over several shards that is killed may have
        removed only some of the ids: call it again.
        """
        doomed = {name for name in ids if name in self._entries}
        held: dict[str, dict[str, Entry]] = {self._entries[name].shard: {} for name in doomed}
        for name, entry in self._entries.items():
            if entry.shard in held:
                held[entry.shard][name] = entry
        for shard, entries in held.items():
            kept = {name: entry for name, entry in entries.items() if name not in doomed}
            write_entries(self.path, shard, kept)
            for name in entries.keys() - kept.keys():
                del self._entries[name]

    def vectors(self, ids: Iterable[str] | None = None) -> Floats:
        """Vectors float32 [n, D] in the order of `ids` (all, in the order of writing, without it).

        Shards are memory-mapped: only rows asked for are read. A request that is exactly one float32 shard
        is answered with the read-only map itself.

        Raises:
            InputError: an id is not held or has several vectors, or a shard is damaged.
        """
        names = self.ids if ids is None else tuple(ids)
        places = self._places(names)
        if any(place.count != 1 for place in places):
            raise InputError(f"{self.path} holds several vectors an id: ask for its multi_vectors.")
        shards, owner = np.unique([place.shard for place in places], return_inverse=True)
        rows = np.array([place.row for place in places], dtype=np.int64)
        if len(shards) == 1:
            return _rows_of_one(mapped(self.path / f"{shards[0]}.npy"), rows)
        gathered = np.empty((len(names), self.width or 0), dtype=np.float32)
        order = np.argsort(owner, kind="stable")
        bounds = np.searchsorted(owner[order], np.arange(len(shards) + 1))
        for shard, start, stop in zip(shards, bounds[:-1], bounds[1:], strict=True):
            mine = order[start:stop]
            gathered[mine] = mapped(self.path / f"{shard}.npy")[rows[mine]]
        return gathered

    def multi_vectors(self, ids: Iterable[str] | None = None) -> StoredMultiVectors:
        """All vectors of each id, in the order of `ids` (all, without it): mapped, and read when asked for.

        Raises:
            InputError: an id is not held.
        """
        names = self.ids if ids is None else tuple(ids)
        return StoredMultiVectors(self.path, self._places(names), self.width or 0)

    def _places(self, names: tuple[str, ...]) -> list[Entry]:
        unknown = [name for name in names if name not in self._entries]
        if unknown:
            raise InputError(
                f"{len(unknown)} ids are not in {self.path}, first {unknown[0]!r}: embed them first."
            )
        return [self._entries[name] for name in names]

    def _counts(self, names: tuple[str, ...], vectors: ArrayLike | MultiVectors) -> Integers | None:
        """How many vectors each id has; None where each has one."""
        if not isinstance(vectors, MultiVectors):
            return None
        if len(vectors) != len(names) or (vectors.lengths == 0).any():
            raise InputError(
                f"There are {len(names)} ids for {self.path} and {len(vectors)} groups of vectors, of "
                f"{vectors.lengths.min(initial=0)} or more: give each id a group of at least one."
            )
        return vectors.lengths

    def _refuse_held(self, names: tuple[str, ...]) -> None:
        held = [name for name in names if name in self._entries]
        if held:
            raise InputError(
                f"{len(held)} ids are already in {self.path}, first {held[0]!r}: "
                "remove them before replacing them."
            )

    def _as_stored(self, names: tuple[str, ...], vectors: ArrayLike) -> Stored:
        rows = checked_vectors(names, vectors, str(self.path), width=self.width)
        if self.dtype == "float32":
            return rows
        with np.errstate(over="ignore"):  # what overflows or vanishes is named by the check below
            halves = rows.astype(np.float16)
        checked_vectors(names, halves, f"{self.path} as float16")
        return halves

    def _aligned(self, names: tuple[str, ...], stamps: Sequence[str] | None) -> Sequence[str | None]:
        marks: Sequence[str | None] = [None] * len(names) if stamps is None else list(stamps)
        if len(marks) != len(names):
            raise InputError(f"There are {len(names)} ids but {len(marks)} stamps for {self.path}.")
        return marks

    def _settle_width(self, width: int) -> None:
        if self.width != width:
            manifest = {**self._manifest, "width": width}
            write_json(self.path / MANIFEST, manifest)
            self._manifest = manifest


def _rows_of_one(shard: Stored, rows: Integers) -> Floats:
    whole = np.array_equal(rows, np.arange(len(shard)))
    return np.asarray(shard if whole else shard[rows], dtype=np.float32)
