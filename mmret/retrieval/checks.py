"""What ids and vectors must be before anything is computed or stored."""

from collections import Counter
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmret.errors import InputError

Floats: TypeAlias = NDArray[np.float32]
Integers: TypeAlias = NDArray[np.int64]

_ROWS_AT_A_TIME = 16_384  # bounds temporary arrays to a few dozen MB


def checked_ids(ids: Iterable[str], owner: str) -> tuple[str, ...]:
    """Ids as a tuple of distinct, non-empty strings; `owner` names them in messages ("the gallery").

    Raises:
        InputError: an id is no string or empty, or one appears twice.
    """
    if isinstance(ids, str):
        raise InputError(f"The ids of {owner} are the single string {ids!r}: give a list of ids.")
    names = tuple(ids)
    if set(map(type, names)) - {str}:  # numpy's strings become str
        names = tuple(str(name) if isinstance(name, str) else name for name in names)
    # Galleries are large and checked with every run: whole-tuple operations, and no loop over good ids.
    if set(map(type, names)) - {str} or not all(names):
        wrong = next(name for name in names if not isinstance(name, str) or not name)
        raise InputError(f"An id of {owner} is {wrong!r}: ids are non-empty strings.")
    if len(set(names)) < len(names):
        repeated = [name for name, count in Counter(names).items() if count > 1]
        raise InputError(
            f"{len(repeated)} ids of {owner} appear more than once, first {repeated[0]!r}: "
            "give each id one vector."
        )
    return names


def checked_vectors(
    ids: tuple[str, ...], vectors: ArrayLike, owner: str, *, width: int | None = None
) -> Floats:
    """Vectors as a row-major float32 array [n, D], one finite, non-zero row an id (no copy if it is one).

    Raises:
        InputError: not two-dimensional, no real numbers, another count than the ids or another width than
            `width`; rows that are zero, not finite, or too large for float32, named by id.
    """
    matrix = np.asarray(vectors)
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
        raise InputError(
            f"The vectors of {owner} are {matrix.dtype} of shape {list(matrix.shape)}: "
            "give real numbers [n, D]."
        )
    if len(matrix) != len(ids):
        raise InputError(
            f"There are {len(ids)} ids but {len(matrix)} vectors for {owner}: give one vector an id."
        )
    if width is not None and matrix.shape[1] != width:
        raise InputError(
            f"The vectors of {owner} are {matrix.shape[1]} wide, not {width}: "
            "encode them with the same backbone."
        )
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite and is named below
        rows = np.ascontiguousarray(matrix, dtype=np.float32)
    _refuse_rows(ids, rows, owner)
    return rows


def _refuse_rows(ids: tuple[str, ...], rows: Floats, owner: str) -> None:
    lengths = row_norms(rows)
    for bad, fault in ((~np.isfinite(lengths), "not finite"), (lengths == 0, "zero")):
        where = np.flatnonzero(bad)
        if len(where):
            raise InputError(
                f"{len(where)} vectors of {owner} are {fault}, first {ids[where[0]]!r}: "
                "encode them again or leave them out."
            )


def row_norms(rows: Floats) -> NDArray[np.float64]:
    """Euclidean length of each row, float64 [n], with no overflow within float32's range."""
    lengths = np.empty(len(rows), dtype=np.float64)
    for start in range(0, len(rows), _ROWS_AT_A_TIME):
        block = rows[start : start + _ROWS_AT_A_TIME].astype(np.float64)
        lengths[start : start + _ROWS_AT_A_TIME] = np.einsum("nd,nd->n", block, block)
    return np.sqrt(lengths)


def normalised(rows: Floats) -> Floats:
    """A copy of the rows, each divided by its length in float64 and rounded once; float32 [n, D]."""
    unit = np.empty_like(rows)
    lengths = row_norms(rows)[:, None]
    for start in range(0, len(rows), _ROWS_AT_A_TIME):
        stop = start + _ROWS_AT_A_TIME
        np.divide(rows[start:stop], lengths[start:stop], out=unit[start:stop], casting="same_kind")
    return unit
