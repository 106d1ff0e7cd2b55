"""Documents and queries of several vectors each (late interaction): in memory, or mapped from a store's shards."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import ArrayLike

from mmret.errors import InputError
from mmret.retrieval.checks import Floats, Integers
from mmret.retrieval.shards import Entry, mapped


class ManyVectors(Protocol):
    """n items of several vectors each, wherever they lie."""

    def __len__(self) -> int:
        """N."""

    @property
    def width(self) -> int:
        """D."""

    @property
    def lengths(self) -> Integers:
        """How many vectors each item has, int64 [n]."""

    def take(self, rows: Sequence[int] | Integers, /) -> "MultiVectors":
        """Some items, in memory."""


@dataclass(frozen=True, eq=False)
class MultiVectors:
    """n items in memory: ragged rows of one matrix.

    Attributes:
        vectors: float32 [ΣT, D], item after item.
        offsets: int64 [n + 1]: item i has the rows from offsets[i] up to offsets[i + 1].

    Raises:
        InputError: the offsets do not begin at 0, fall, or do not end with the rows.
    """

    vectors: Floats
    offsets: Integers

    def __post_init__(self) -> None:
        ends = len(self.offsets) > 0 and self.offsets[0] == 0 and self.offsets[-1] == len(self.vectors)
        if self.vectors.ndim != 2 or not ends or (np.diff(self.offsets) < 0).any():
            raise InputError(
                f"{len(self.vectors)} vectors cannot be divided so: offsets rise from 0 to their number."
            )

    @classmethod
    def of_lengths(cls, vectors: ArrayLike, lengths: ArrayLike) -> Self:
        """Items of so many vectors each, one behind the other in `vectors` [ΣT, D]."""
        offsets = np.concatenate([[0], np.cumsum(np.asarray(lengths, dtype=np.int64))]).astype(np.int64)
        return cls(np.asarray(vectors, dtype=np.float32), offsets)

    @classmethod
    def concatenated(cls, parts: Sequence["MultiVectors"]) -> Self:
        """The items of several, in order; there is at least one part."""
        lengths = np.concatenate([part.lengths for part in parts])
        return cls.of_lengths(np.concatenate([part.vectors for part in parts]), lengths)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def width(self) -> int:
        """D."""
        return int(self.vectors.shape[1])

    @cached_property
    def lengths(self) -> Integers:
        """How many vectors each item has, int64 [n]."""
        return np.diff(self.offsets)

    def take(self, rows: Sequence[int] | Integers) -> "MultiVectors":
        """Some items, by position, in the order asked for."""
        chosen = np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[chosen]
        return MultiVectors.of_lengths(self.vectors[expanded(self.offsets[chosen], lengths)], lengths)


@dataclass(frozen=True, eq=False)
class StoredMultiVectors:
    """n items of a store: memory-mapped, so that `take` reads those it is asked for and nothing else."""

    folder: Path
    places: Sequence[Entry]
    width: int

    def __len__(self) -> int:
        return len(self.places)

    @cached_property
    def lengths(self) -> Integers:
        """How many vectors each item has, int64 [n]."""
        return np.array([place.count for place in self.places], dtype=np.int64)

    @cached_property
    def _shards(self) -> tuple[list[str], Integers]:
        """The shards, and which of them each item lies in."""
        names, owner = np.unique([place.shard for place in self.places], return_inverse=True)
        return list(names), owner

    def take(self, rows: Sequence[int] | Integers) -> MultiVectors:
        """Some items, by position, in the order asked for, as float32."""
        chosen = np.asarray(rows, dtype=np.int64)
        found = MultiVectors.of_lengths(
            np.empty((int(self.lengths[chosen].sum()), self.width), np.float32), self.lengths[chosen]
        )
        names, owner = self._shards
        for shard in np.unique(owner[chosen]):
            mine = np.flatnonzero(owner[chosen] == shard)
            starts = np.array([self.places[row].row for row in chosen[mine]], dtype=np.int64)
            lengths = found.lengths[mine]
            source = mapped(self.folder / f"{names[shard]}.npy")
            found.vectors[expanded(found.offsets[mine], lengths)] = source[expanded(starts, lengths)]
        return found


def expanded(starts: Integers, lengths: Integers) -> Integers:
    """The rows of several ranges, one behind the other: for each `lengths[i]` rows from `starts[i]` on."""
    before = np.cumsum(lengths) - lengths
    within = np.arange(int(lengths.sum())) - np.repeat(before, lengths)
    rows: Integers = np.repeat(starts, lengths) + within
    return rows
