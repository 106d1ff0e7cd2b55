"""From a backend's candidates to the one right ranking: exclusions, ties, and proof that nothing is missing.

Backends add up in float32 and in different orders, so the same two vectors get scores that differ in the
last digits from one backend, block or machine to the next, and duplicates need not get equal ones. Here
scores that lie within the error of such a sum are computed again in float64 and rounded once to float32: the
*canonical* score. Equal canonical scores are ties and stand in ascending order of document id. The ranking so
defined is the same for every exact backend.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mmret.errors import InputError
from mmret.retrieval.checks import Floats, Integers, row_norms
from mmret.retrieval.index import Index

Number = TypeVar("Number", np.float32, np.int64)

_SLACK = 16  # candidates beyond those needed: enough that a tie rarely runs on beyond them
_PAIRS_AT_A_TIME = 512  # of float64 vectors: they stay in the processor's cache
_SCORES_AT_A_TIME = 2**23  # float64 elements of one block in `whole_gallery`: 64 MB
_GALLERY_BLOCK = 8_192
_UNIT = float(np.finfo(np.float32).eps) / 2  # float32's unit roundoff


def rank(index: Index, queries: Floats, k: int, excluded: Integers) -> tuple[Floats, Integers]:
    """The k best documents of each query: scores float32 [Q, k] and rows int64 [Q, k], padded -inf and -1.

    Args:
        index: what is searched.
        queries: float32 [Q, D].
        k: depth of the ranking, at least 1.
        excluded: pairs `query * len(index) + row` that may not be returned, ascending.

    Raises:
        InputError: k is beyond what FAISS ranks on a GPU.
    """
    depth = _depth(index, k, excluded)
    fetched = index.backend.top(queries, depth)
    scores, rows = _without(excluded, *fetched, len(index))
    tolerance = 2 * sum_error(index, queries)
    open_queries = np.zeros(len(queries), dtype=bool)
    if index.backend.exact:
        if depth < len(index):
            open_queries = ~_proven(scores, fetched[0][:, -1], k, tolerance)
        _rescore_near_ties(index, queries, scores, rows, tolerance)
    scores, rows = sorted_rows(scores, rows, index.id_ranks)
    scores, rows = padded(scores, -np.inf, k), padded(rows, -1, k)
    for block in np.array_split(np.flatnonzero(open_queries), _blocks(open_queries.sum(), len(index))):
        if len(block):
            scores[block], rows[block] = _whole_gallery(index, queries, block, k, excluded)
    return scores, rows


def _depth(index: Index, k: int, excluded: Integers) -> int:
    """How many candidates to fetch, so that k usually remain after exclusions and close the tie at k.

    An exact index fetches for at most k exclusions a query: the rare query with more is compared with the
    whole gallery, which is cheaper than fetching more for all.
    """
    deepest = index.backend.deepest
    if deepest is not None and min(k, len(index)) > deepest:
        raise InputError(
            f"FAISS ranks at most {deepest} documents on a GPU, not {k}: use backend='torch' there."
        )
    most = int(np.unique(excluded // len(index), return_counts=True)[1].max(initial=0))
    wanted = k + _SLACK + (min(most, k) if index.backend.exact else most)
    return min(wanted, len(index), deepest or wanted)


def sum_error(index: Index, queries: Floats) -> NDArray[np.float64]:
    """How far a float32 inner product of each query may lie from the true one, float64 [Q].

    Probabilistic bound sqrt(D) u |q| |v| (Higham and Mary, "A new approach to probabilistic rounding error
    analysis", 2019), plus 2 u |q| |v| for the smallest widths; sums in blocks and lanes, as every backend
    forms them, stay several times below it.
    """
    growth = (np.sqrt(index.width) + 2) * _UNIT * index.longest
    error: NDArray[np.float64] = growth * row_norms(queries)
    return error


def canonical_scores(left: Floats, right: Floats) -> Floats:
    """Inner products of rows [p, D] with rows [p, D], summed in float64, rounded once; float32 [p]."""
    products: NDArray[np.float64] = np.einsum("pd,pd->p", left.astype(np.float64), right.astype(np.float64))
    return products.astype(np.float32)


def pair_scores(index: Index, queries: Floats, query_rows: Integers, rows: Integers) -> Floats:
    """Canonical scores of p pairs (a row of `queries`, a row of the gallery), float32 [p]."""
    scores = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), _PAIRS_AT_A_TIME):
        some = slice(start, start + _PAIRS_AT_A_TIME)
        scores[some] = canonical_scores(queries[query_rows[some]], index.vectors[rows[some]])
    return scores


def sorted_rows(scores: Floats, rows: Integers, id_ranks: Integers) -> tuple[Floats, Integers]:
    """Each row by descending score, equal scores by ascending document id, padding (row -1) last; [Q, m]."""
    gaps = scores[:, :-1] <= scores[:, 1:]
    unsorted = np.flatnonzero(gaps.any(axis=1))  # a strictly falling row is in order already
    order = np.lexsort((id_ranks[rows[unsorted]], -scores[unsorted]), axis=-1)
    scores, rows = scores.copy(), rows.copy()
    scores[unsorted] = np.take_along_axis(scores[unsorted], order, axis=1)
    rows[unsorted] = np.take_along_axis(rows[unsorted], order, axis=1)
    return scores, rows


def padded(values: NDArray[Number], fill: float, k: int) -> NDArray[Number]:
    """The first k columns, filled up to k where there are fewer."""
    missing = max(0, k - values.shape[1])
    filled: NDArray[Number] = np.pad(values[:, :k], ((0, 0), (0, missing)), constant_values=fill)
    return filled


def is_excluded(query_rows: Integers, rows: Integers, excluded: Integers, gallery: int) -> NDArray[np.bool_]:
    """Whether each (query, document) pair is among the `excluded` ones (see `rank`)."""
    keys = query_rows * gallery + rows
    places = np.searchsorted(excluded, keys)
    places[places == len(excluded)] = 0
    hits: NDArray[np.bool_] = (excluded[places] == keys) & (rows >= 0) if len(excluded) else keys < 0
    return hits


def _without(excluded: Integers, scores: Floats, rows: Integers, gallery: int) -> tuple[Floats, Integers]:
    """Candidates with the excluded ones turned into padding at the end of their row."""
    queries = np.broadcast_to(np.arange(len(rows))[:, None], rows.shape)
    hits = is_excluded(queries, rows, excluded, gallery)
    touched = np.flatnonzero(hits.any(axis=1))
    order = np.argsort(hits[touched], axis=1, kind="stable")
    scores, rows = np.where(hits, np.float32(-np.inf), scores), np.where(hits, -1, rows)
    scores[touched] = np.take_along_axis(scores[touched], order, axis=1)
    rows[touched] = np.take_along_axis(rows[touched], order, axis=1)
    return scores, rows


def _proven(
    scores: Floats, last_fetched: Floats, k: int, tolerance: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether no document outside the candidates can stand among the first k, [Q].

    Any such document scored at most `last_fetched`. With e the error of a sum, its canonical score is at most
    that plus e, while the k-th candidate's is at least its own minus e; `tolerance` is 2 e.
    """
    if scores.shape[1] < k:
        return np.zeros(len(scores), dtype=bool)
    proven: NDArray[np.bool_] = last_fetched + tolerance < scores[:, k - 1]
    return proven


def _rescore_near_ties(
    index: Index, queries: Floats, scores: Floats, rows: Integers, tolerance: NDArray[np.float64]
) -> None:
    """Put the canonical score, in place, where a neighbour in the ranking lies within `tolerance`.

    Scores further apart than 2 e keep their order when either is replaced, so rescoring the rest would
    change nothing but time.
    """
    with np.errstate(invalid="ignore"):  # padding: -inf - -inf
        near = scores[:, :-1] - scores[:, 1:] <= tolerance[:, None]
    suspects = np.zeros(scores.shape, dtype=bool)
    suspects[:, :-1] |= near
    suspects[:, 1:] |= near
    query_rows, places = np.nonzero(suspects & (rows >= 0))
    scores[query_rows, places] = pair_scores(index, queries, query_rows, rows[query_rows, places])


def _blocks(queries: int, gallery: int) -> int:
    return max(1, -(-int(queries) * gallery // _SCORES_AT_A_TIME))


def _whole_gallery(
    index: Index, queries: Floats, block: Integers, k: int, excluded: Integers
) -> tuple[Floats, Integers]:
    """The ranking of the queries in `block` from canonical scores of every document; as `rank`.

    The way out when candidates prove nothing: a tie that runs on beyond them, or more exclusions than were
    fetched for. Columns stand in ascending order of id, so that the first of equals is the right one.
    """
    asked = queries[block].astype(np.float64)
    scores = np.empty((len(block), len(index)), dtype=np.float32)
    for start in range(0, len(index), _GALLERY_BLOCK):
        columns = index.rows_by_id[start : start + _GALLERY_BLOCK]
        scores[:, start : start + _GALLERY_BLOCK] = asked @ index.vectors[columns].T.astype(np.float64)
    first = np.searchsorted(excluded, block * len(index))
    last = np.searchsorted(excluded, (block + 1) * len(index))
    for row, (begin, end) in enumerate(zip(first, last, strict=True)):
        scores[row, index.id_ranks[excluded[begin:end] % len(index)]] = -np.inf
    kept, found = best_columns(scores, k)
    return kept, np.where(found >= 0, index.rows_by_id[found], -1)


def best_columns(scores: Floats, k: int) -> tuple[Floats, Integers]:
    """The k best of each row of `scores` [q, n], best first, the first of equals before the others.

    Returns the scores float32 [q, k] and their columns int64 [q, k], padded with -inf and -1; documents that
    score -inf are left out.
    """
    found = np.stack([padded(_first_best(row, k)[None], -1, k)[0] for row in scores])
    kept = np.where(found >= 0, np.take_along_axis(scores, found, axis=1), np.float32(-np.inf))
    return kept, found


def _first_best(scores: Floats, k: int) -> Integers:
    """Columns of the k best finite scores, best first, the first of equals before the others; at most k."""
    k = min(k, int(np.isfinite(scores).sum()))
    if k == 0:
        return np.empty(0, dtype=np.int64)
    threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
    above = np.flatnonzero(scores > threshold)
    equal = np.flatnonzero(scores == threshold)[: k - len(above)]
    columns = np.concatenate([above, equal])
    return columns[np.argsort(-scores[columns], kind="stable")]
