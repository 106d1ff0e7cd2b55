"""`search`: queries over an index, with per-query exclusions or candidate pools."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from mmret.errors import InputError
from mmret.retrieval.checks import Floats, Integers, checked_ids, checked_vectors, normalised
from mmret.retrieval.gallery import Gallery
from mmret.retrieval.index import Index
from mmret.retrieval.pools import pool_rows, rank_pools
from mmret.retrieval.ranking import rank
from mmret.retrieval.run import Run

_QUERIES_AT_A_TIME = 8_192  # large, for BLAS; a long search shows progress between batches
_PROGRESS_AFTER_S = 5.0


def search(
    index: Index,
    query_ids: Iterable[str],
    queries: ArrayLike,
    k: int,
    *,
    exclude: Mapping[str, Sequence[str]] | None = None,
    pools: Mapping[str, Sequence[str]] | None = None,
    normalise: bool = True,
) -> Run:
    """The k best documents of each query, by descending inner product, ties by ascending document id.

    Exact backends give the exact ranking: candidates are fetched beyond k, and a query whose tie at rank k
    (or whose exclusions) reach beyond them is compared with the whole gallery. A ranking shorter than k (a
    small gallery or pool) is padded. Approximate factories return what their candidates show.

    Args:
        index: the gallery.
        query_ids: Q distinct ids.
        queries: real numbers [Q, D].
        k: depth of the ranking, at least 1.
        exclude: by query id, documents never to return; ids outside the gallery and queries not asked are
            passed over.
        pools: by query id (every query), the only documents to rank, scored exactly whatever the index.
        normalise: divide each query by its length (cosine similarity over a normalised index).

    Raises:
        InputError: k below 1 or beyond what FAISS ranks on a GPU; zero, non-finite or duplicate queries;
            another width than the index's; a missing pool, or one with unknown documents.
    """
    k = checked_depth(k)
    names = checked_ids(query_ids, "the queries")
    rows = checked_vectors(names, queries, "the queries", width=index.width)
    rows = normalised(rows) if normalise else rows
    excluded = excluded_pairs(index, names, exclude or {})
    if pools is not None:
        scores, found = rank_pools(index, rows, k, pool_rows(index, names, pools), excluded)
    else:
        scores, found = _rank_batches(index, rows, k, excluded)
    return Run(names, index.ids, found, scores)


def checked_depth(k: int) -> int:
    """k, or `InputError` if it is no whole number from 1 up."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise InputError(f"A search's k is a whole number from 1 up, not {k!r}.")
    return int(k)


def excluded_pairs(index: Gallery, names: tuple[str, ...], exclude: Mapping[str, Sequence[str]]) -> Integers:
    """Excluded (query, document) pairs as ascending numbers `query * len(index) + row`."""
    pairs = {
        query * len(index) + index.positions[document]
        for query, name in enumerate(names)
        for document in exclude.get(name, ())
        if document in index.positions
    }
    return np.array(sorted(pairs), dtype=np.int64)


def _rank_batches(index: Index, queries: Floats, k: int, excluded: Integers) -> tuple[Floats, Integers]:
    scores = np.empty((len(queries), k), dtype=np.float32)
    rows = np.empty((len(queries), k), dtype=np.int64)
    starts = range(0, len(queries), _QUERIES_AT_A_TIME)
    for start in tqdm(starts, desc="search", unit="batch", delay=_PROGRESS_AFTER_S, disable=len(starts) < 2):
        stop = start + _QUERIES_AT_A_TIME
        low, high = np.searchsorted(excluded, [start * len(index), stop * len(index)])
        mine = excluded[low:high] - start * len(index)
        scores[start:stop], rows[start:stop] = rank(index, queries[start:stop], k, mine)
    return scores, rows
