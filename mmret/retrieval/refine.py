"""Runs made from a run: with other ties, without some documents."""

from collections.abc import Mapping, Sequence

import numpy as np

from mmret.errors import InputError
from mmret.retrieval.checks import Floats, Integers
from mmret.retrieval.evaluate import Judgements
from mmret.retrieval.gallery import known_rows
from mmret.retrieval.run import Run


def break_ties(run: Run, judgements: Judgements, tie_break: str) -> Run:
    """The run with equal scores in the order of a protocol.

    Args:
        run: Equal scores stand in ascending order of document id, as `search` leaves them.
        judgements: By query id, the gain of each relevant document.
        tie_break: "id-ascending", or "target-last": relevant documents stand behind all others of their score. Only
            what the run holds can be reordered, so a tie must not run on beyond its last rank.

    Raises:
        InputError: There is no such order.
    """
    if tie_break == "id-ascending":
        return run
    if tie_break != "target-last":
        raise InputError(f"There is no tie_break {tie_break!r}; there are id-ascending and target-last.")
    relevant = np.zeros(run.indices.shape, dtype=bool)
    places = {name: place for place, name in enumerate(run.document_ids)}
    for row, query in enumerate(run.query_ids):
        relevant[row] = np.isin(run.indices[row], known_rows(places, judgements.get(query, ())))
    order = np.lexsort((relevant, -run.scores), axis=-1)  # stable: the rest keeps its order
    return _reordered(run, order, run.indices, run.scores)


def filtered(
    run: Run,
    *,
    exclude: Mapping[str, Sequence[str]] | None = None,
    pools: Mapping[str, Sequence[str]] | None = None,
) -> Run:
    """The run without excluded documents and, with pools, without documents outside a query's pool.

    Ranks close up and padding fills the end; queries without an entry in `pools` keep their documents.
    """
    places = {name: place for place, name in enumerate(run.document_ids)}
    dropped = np.zeros(run.indices.shape, dtype=bool)
    for row, query in enumerate(run.query_ids):
        dropped[row] = np.isin(run.indices[row], known_rows(places, (exclude or {}).get(query, ())))
        if pools is not None and query in pools:
            dropped[row] |= ~np.isin(run.indices[row], known_rows(places, pools[query]))
    order = np.argsort(dropped, axis=1, kind="stable")
    indices = np.where(dropped, -1, run.indices)
    return _reordered(run, order, indices, np.where(dropped, np.float32(-np.inf), run.scores))


def holds_pools(run: Run, pools: Mapping[str, Sequence[str]]) -> bool:
    """Whether every query's ranking holds its whole pool, so that the run over the pools follows from it."""
    return all(
        query in run.rows and set(pool) <= {name for name, _ in run.ranking(query)}
        for query, pool in pools.items()
    )


def _reordered(run: Run, order: Integers, indices: Integers, scores: Floats) -> Run:
    """The run's queries and documents with these rankings [Q, k], each in the order of its row of `order`."""
    in_order = np.take_along_axis(indices, order, axis=1), np.take_along_axis(scores, order, axis=1)
    return Run(run.query_ids, run.document_ids, *in_order)
