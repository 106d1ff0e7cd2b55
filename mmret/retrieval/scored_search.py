"""`search_scores`: the best documents by any score of a query and a document, not by one vector a query."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mmret.retrieval.checks import Floats, Integers, checked_ids
from mmret.retrieval.gallery import Gallery
from mmret.retrieval.pools import pool_rows
from mmret.retrieval.ranking import best_columns, is_excluded, padded
from mmret.retrieval.run import Run
from mmret.retrieval.search import checked_depth, excluded_pairs

_SCORES_AT_A_TIME = 2**26  # float32 scores of one block of queries: 256 MB
_DOCUMENTS_AT_A_TIME = 8_192
_PROGRESS_AFTER_S = 5.0


class Scores(Protocol):
    """Scores blocks of queries and documents; higher is better."""

    def __call__(self, queries: Integers, rows: Integers, /) -> NDArray[np.float64]:
        """Scores [q, n] of q queries, by position, with n documents, by row of the gallery.

        Equal documents must score equally up to float64's rounding: scores are rounded once, to float32, and
        those that are equal then are ties.
        """


def search_scores(
    index: Gallery,
    query_ids: Iterable[str],
    scores: Scores,
    k: int,
    *,
    exclude: Mapping[str, Sequence[str]] | None = None,
    pools: Mapping[str, Sequence[str]] | None = None,
) -> Run:
    """The k best documents of each query, by descending score, ties by ascending document id.

    Every document is scored (a score that is no inner product has no index), block by block: memory stays
    within a few hundred MB whatever the gallery. Arguments, padding and errors are as in `search`; of the
    index only ids and rows are used.

    Raises:
        InputError: as `search`.
        ValueError: a score is NaN.
    """
    names = checked_ids(query_ids, "the queries")
    depth = checked_depth(k)
    excluded = excluded_pairs(index, names, exclude or {})
    if pools is None:
        candidates = [index.rows_by_id]
        blocks = _blocks(len(names), max(1, _SCORES_AT_A_TIME // len(index)))
    else:
        candidates = [_by_id(index, rows) for rows in pool_rows(index, names, pools)]
        blocks = _blocks(len(names), 1)
    found = np.full((len(names), depth), -1, np.int64)
    values = np.full((len(names), depth), -np.inf, np.float32)
    for block in tqdm(blocks, desc="scored search", unit="block", delay=_PROGRESS_AFTER_S):
        rows = candidates[0] if pools is None else candidates[block[0]]
        values[block], found[block] = _rank(scores, block, rows, depth, excluded, len(index))
    return Run(names, index.ids, found, values)


def _blocks(count: int, size: int) -> list[Integers]:
    return [np.arange(start, min(start + size, count)) for start in range(0, count, size)]


def _by_id(index: Gallery, rows: Sequence[int]) -> Integers:
    """Rows in ascending order of document id."""
    chosen = np.array(rows, dtype=np.int64)
    return chosen[np.argsort(index.id_ranks[chosen])]


def _rank(
    scores: Scores, queries: Integers, rows: Integers, k: int, excluded: Integers, gallery: int
) -> tuple[Floats, Integers]:
    """The k best of `rows`, which stand in ascending order of id: scores and rows [q, k], padded."""
    values = np.empty((len(queries), len(rows)), np.float32)
    for start in range(0, len(rows), _DOCUMENTS_AT_A_TIME):
        some = slice(start, start + _DOCUMENTS_AT_A_TIME)
        values[:, some] = scores(queries, rows[some])
    if np.isnan(values).any():
        raise ValueError("A score is NaN: a rule of scoring must be defined for all similarities.")
    values[is_excluded(queries[:, None], rows[None, :], excluded, gallery)] = -np.inf
    kept, columns = best_columns(values, k)
    return padded(kept, -np.inf, k), np.where(columns >= 0, rows[columns], -1)
