"""Hybrids: one run of several, by ranks or by scores. What one run does not keep can still be found by another.

    reciprocal ranks   sum over runs of w / (60 + rank) (Cormack, Clarke and Büttcher, SIGIR 2009)
    weighted scores    sum over runs of w · (s - min) / (max - min), each run's kept scores of the query scaled to
                       0 … 1; a document that a run does not keep gets 0 from it, what its last kept one gets

Sums are made in float64, run by run in the order given, and rounded once to float32; equal ones are ties, in ascending
order of document id.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mmret.errors import InputError
from mmret.retrieval.checks import Floats
from mmret.retrieval.run import Run
from mmret.retrieval.search import checked_depth

RANK_CONSTANT = 60.0
"""k of the paper, which found its choice not critical."""

Shares = NDArray[np.float64]


def fuse_ranks(
    runs: Sequence[Run], k: int, *, weights: Sequence[float] | None = None, constant: float = RANK_CONSTANT
) -> Run:
    """Reciprocal rank fusion, k documents a query. Tied documents of a run have the ranks that their ids give them.

    Raises:
        InputError: As `fuse_scores`; a constant below 0.
    """
    if not constant >= 0:
        raise InputError(
            f"The constant of reciprocal ranks is {constant!r}; 0 or more is needed, usually 60."
        )
    return _fuse(runs, k, weights, lambda scores: 1 / (constant + 1 + np.arange(scores.shape[0])))


def fuse_scores(runs: Sequence[Run], k: int, *, weights: Sequence[float] | None = None) -> Run:
    """The weighted sum of each query's scores, scaled to 0 … 1 in each run; k documents a query.

    Where all kept scores of a query are equal, each counts 1.

    Raises:
        InputError: Less than two runs, runs of other queries, weights of another number, negative or all 0; k below 1.
    """
    return _fuse(runs, k, weights, _scaled)


def _scaled(scores: Floats) -> Shares:
    values = scores.astype(np.float64)
    low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
    return (values - low) / (high - low) if high > low else np.ones(len(values))


def _fuse(
    runs: Sequence[Run], k: int, weights: Sequence[float] | None, shares: Callable[[Floats], Shares]
) -> Run:
    k, checked = checked_depth(k), _checked_weights(runs, weights)
    queries = runs[0].query_ids
    documents = tuple(sorted({name for run in runs for name in run.document_ids}))
    places = {name: place for place, name in enumerate(documents)}
    # Places are in ascending order of id, so that a stable sort leaves ties in that order.
    into = [np.array([places[name] for name in run.document_ids], dtype=np.int64) for run in runs]
    indices = np.full((len(queries), k), -1, dtype=np.int64)
    kept = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for row, query in enumerate(queries):
        sums: dict[int, float] = {}
        for run, weight, place in zip(runs, checked, into, strict=True):
            own = run.indices[run.rows[query]]
            found = own >= 0
            gained = weight * shares(run.scores[run.rows[query]][found])
            for document, share in zip(place[own[found]].tolist(), gained.tolist(), strict=True):
                sums[document] = sums.get(document, 0.0) + share
        best = sorted(sums, key=lambda document: (-np.float32(sums[document]), document))[:k]
        indices[row, : len(best)] = best
        kept[row, : len(best)] = [sums[document] for document in best]
    return Run(queries, documents, indices, kept)


def _checked_weights(runs: Sequence[Run], weights: Sequence[float] | None) -> list[float]:
    if len(runs) < 2:
        raise InputError(f"A hybrid is of two runs or more, not of {len(runs)}.")
    other = [run for run in runs[1:] if set(run.query_ids) != set(runs[0].query_ids)]
    if other:
        raise InputError("The runs of a hybrid answer other queries; run them on the same benchmark.")
    given = [1.0] * len(runs) if weights is None else [float(weight) for weight in weights]
    if len(given) != len(runs) or not all(weight >= 0 for weight in given) or not sum(given) > 0:
        raise InputError(
            f"The weights of a hybrid are {list(weights or ())}; one of 0 or more for each run is needed."
        )
    return given
