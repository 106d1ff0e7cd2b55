"""`rank_scores`: a run from one row of scores a query, whoever made them; for what has no vectors, such as BM25."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mmret.errors import InputError
from mmret.retrieval.checks import Floats, checked_ids
from mmret.retrieval.gallery import known_rows
from mmret.retrieval.ranking import best_columns, padded
from mmret.retrieval.run import Run
from mmret.retrieval.search import checked_depth


def rank_scores(
    query_ids: Iterable[str],
    document_ids: Iterable[str],
    scores: Iterable[NDArray[np.floating]],
    k: int,
    *,
    exclude: Mapping[str, Sequence[str]] | None = None,
    pools: Mapping[str, Sequence[str]] | None = None,
) -> Run:
    """The k best documents of each query, by descending score rounded to float32, ties by ascending document id.

    Args:
        query_ids: Q distinct ids.
        document_ids: N distinct ids.
        scores: A row [N] for each query, taken one by one; -inf is never returned.
        k: Depth of the run.
        exclude: By query id, documents never to return.
        pools: By query id (every query), the only documents to rank.

    Raises:
        InputError: Ids that are not distinct; a row of another length or with NaN; a query without a pool, or a pool
            with unknown documents.
    """
    queries, documents = checked_ids(query_ids, "the queries"), checked_ids(document_ids, "the gallery")
    places = {name: place for place, name in enumerate(documents)}
    by_id = np.array(sorted(range(len(documents)), key=documents.__getitem__), dtype=np.int64)
    depth = checked_depth(k)
    indices = np.full((len(queries), depth), -1, dtype=np.int64)
    kept = np.full((len(queries), depth), -np.inf, dtype=np.float32)
    for row, (query, values) in enumerate(zip(queries, scores, strict=True)):
        own = _allowed(query, np.asarray(values, dtype=np.float32), places, exclude or {}, pools)
        best, columns = best_columns(own[by_id][None], depth)
        kept[row] = padded(best, -np.inf, depth)[0]
        indices[row] = padded(np.where(columns >= 0, by_id[columns], -1), -1, depth)[0]
    return Run(queries, documents, indices, kept)


def _allowed(
    query: str,
    scores: Floats,
    places: Mapping[str, int],
    exclude: Mapping[str, Sequence[str]],
    pools: Mapping[str, Sequence[str]] | None,
) -> Floats:
    """The scores, -inf for documents that may not be returned."""
    if scores.shape != (len(places),) or np.isnan(scores).any():
        raise InputError(
            f"The scores of query {query!r} are {scores.shape}, or NaN; {len(places)} numbers are needed."
        )
    allowed = np.full(len(places), pools is None)
    if pools is not None:
        if query not in pools:
            raise InputError(f"Query {query!r} has no pool: give every query one, or none at all.")
        unknown = [name for name in pools[query] if name not in places]
        if unknown:
            raise InputError(
                f"The pool of query {query!r} names {unknown[0]!r}, which is not in the gallery."
            )
        allowed[known_rows(places, pools[query])] = True
    allowed[known_rows(places, exclude.get(query, ()))] = False
    return np.where(allowed, scores, np.float32(-np.inf))
