"""One evaluation for every task: a run, the judgements, and the metrics to compute."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mmret.errors import InputError
from mmret.retrieval.checks import Integers
from mmret.retrieval.metrics import Metric, Relevance, metric
from mmret.retrieval.notebook import html_table
from mmret.retrieval.run import Run

Judgements: TypeAlias = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """What a run is worth.

    Attributes:
        query_ids: the judged queries, in the order of the judgements.
        per_query: by metric name, its value for each query, float64 [Q] from 0 to 1.
        means: by metric name, the mean over all judged queries.
        ties: ranked documents of judged queries whose score equals the one above, so that ids decided.
        missing: judged queries that the run has no row for; they count 0 everywhere.
        unreachable: relevant (query, document) pairs whose document is not among the run's documents, which
            for a run from `search` are the gallery. They count as relevant, and can never be found.
    """

    query_ids: tuple[str, ...]
    per_query: dict[str, NDArray[np.float64]]
    means: dict[str, float]
    ties: int
    missing: int
    unreachable: int

    def __repr__(self) -> str:
        means = ", ".join(f"{name} {mean:.4f}" for name, mean in self.means.items())
        return f"Evaluation({len(self.query_ids)} queries: {means}; {self.ties} ties)"

    def _repr_html_(self) -> str:
        """What a notebook shows: the means × 100."""
        caption = f"{len(self.query_ids):,} queries, {self.ties:,} ranked documents with tied scores"
        rows = [(name, f"{100 * mean:.2f}") for name, mean in self.means.items()]
        return html_table(caption, ["metric", "mean × 100"], rows)


def evaluate(
    run: Run,
    judgements: Judgements,
    metrics: Sequence[str | Metric],
    *,
    subset_run: Run | None = None,
    answered: Judgements | None = None,
) -> Evaluation:
    """Every metric of every judged query.

    Documents with a gain of 1 or more are relevant; others, and those not judged, are not. Queries of the run
    without judgements are passed over. Judged queries missing from the run count 0.

    Args:
        run: rankings over the gallery.
        judgements: by query id, the gain of each judged document.
        metrics: names, as `metric` takes them.
        subset_run: rankings over each query's own pool, for the metrics that look at these.
        answered: by query id, for **every** query that was asked, the ranked documents that hold an answer (gain 1),
            for the metrics that look at these; a query of which none does has an empty entry, and counts 0.

    Raises:
        InputError: no judgements, a query with no relevant document, or gains that are no whole numbers; a
            metric that is unknown, deeper than the run, or in need of a `subset_run` or of `answered` that is not
            given; `judgements` and `answered` of other queries.
    """
    wanted = [metric(str(name)) for name in metrics]
    for each in wanted:
        _require_depth(each, subset_run if each.subset else run)
    grounds = _grounds(wanted, judgements, answered)
    query_ids = next(iter(grounds.values())).query_ids
    runs = {False: run, **({True: subset_run} if subset_run is not None else {})}
    kinds = {(each.answers, each.subset) for each in wanted}
    views = {(ground, subset): grounds[ground].through(runs[subset]) for ground, subset in kinds}
    per_query = {str(each): each(views[each.answers, each.subset]) for each in wanted}
    used = [runs[subset] for subset in {subset for _, subset in kinds}]
    return Evaluation(
        query_ids=query_ids,
        per_query=per_query,
        means={name: float(values.mean()) for name, values in per_query.items()},
        ties=sum(int(each.tied[_rows(each, query_ids, present=True)].sum()) for each in used),
        missing=sum(name not in run.rows for name in query_ids),
        unreachable=sum(ground.unreachable(run) for ground in grounds.values()),
    )


def _grounds(
    wanted: Sequence[Metric], judgements: Judgements, answered: Judgements | None
) -> "dict[bool, _Judged]":
    """What decides relevance: judgements (False), answers (True), or each for its metrics, query by query alike."""
    kinds = {each.answers for each in wanted}
    if True not in kinds:
        return {False: _Judged(judgements)}
    if answered is None:
        named = next(each for each in wanted if each.answers)
        raise InputError(f"{named} looks at documents that hold an answer: give these as answered.")
    if False not in kinds:
        return {True: _Judged(answered, none_relevant=True)}
    if set(judgements) != set(answered):
        raise InputError(
            f"{len(judgements):,} queries have judgements and {len(answered):,} have answers, not the same ones: "
            "take metrics of one kind."
        )
    in_order = {name: answered[name] for name in judgements}
    return {False: _Judged(judgements), True: _Judged(in_order, none_relevant=True)}


def _require_depth(wanted: Metric, run: Run | None) -> None:
    if run is None:
        raise InputError(f"{wanted} looks at the run over each query's pool: give it as subset_run.")
    if run.depth < wanted.k:
        raise InputError(
            f"{wanted} needs {wanted.k} ranks, but the run keeps {run.depth}: search with a larger k."
        )


def _rows(run: Run, query_ids: Sequence[str], *, present: bool = False) -> Integers:
    """The run's row of each query, -1 where it has none (these are left out with `present`)."""
    rows = np.array([run.rows.get(name, -1) for name in query_ids], dtype=np.int64)
    return rows[rows >= 0] if present else rows


class _Judged:
    """Judgements as flat arrays: one entry a relevant (query, document) pair."""

    def __init__(self, judgements: Judgements, *, none_relevant: bool = False) -> None:
        """With `none_relevant` a query may have no relevant document."""
        self.query_ids = tuple(judgements)
        if not self.query_ids:
            raise InputError("There are no judgements: give at least one judged query.")
        relevant = [
            {name: gain for name, gain in judged.items() if gain > 0} for judged in judgements.values()
        ]
        if not none_relevant:
            self._refuse_without_relevant(relevant)
        self.counts = np.array([len(judged) for judged in relevant], dtype=np.int64)
        self._owner = np.repeat(np.arange(len(relevant)), self.counts)
        self._documents = [name for judged in relevant for name in judged]
        gains = np.array([gain for judged in relevant for gain in judged.values()] or np.empty(0, np.int64))
        if gains.dtype.kind not in "iub":  # a gain of .5 would become 0
            raise InputError("A gain is a whole number: give graded judgements as 1, 2, 3, …")
        self._gains = gains.astype(np.int64)

    def _refuse_without_relevant(self, relevant: Sequence[Mapping[str, int]]) -> None:
        empty = [name for name, judged in zip(self.query_ids, relevant, strict=True) if not judged]
        if empty:
            raise InputError(
                f"{len(empty)} judged queries have no relevant document, first {empty[0]!r}: "
                "leave them out or correct the judgements."
            )

    def through(self, run: Run) -> Relevance:
        """The gains that the run's rankings collect, and the best there are."""
        places = self._places(run)
        known = places >= 0
        keys = self._owner[known] * len(run.document_ids) + places[known]
        order = np.argsort(keys)
        gains = _looked_up(keys[order], self._gains[known][order], self._ranked_keys(run))
        return Relevance(gains, self._ideal(), self.counts)

    def unreachable(self, run: Run) -> int:
        """How many relevant pairs name a document that the run does not know."""
        return int((self._places(run) < 0).sum())

    def _places(self, run: Run) -> Integers:
        place = {name: number for number, name in enumerate(run.document_ids)}
        return np.array([place.get(name, -1) for name in self._documents], dtype=np.int64)

    def _ranked_keys(self, run: Run) -> Integers:
        """`query * documents + document` at each rank, int64 [Q, k]; -1 for padding and missing queries."""
        rows = _rows(run, self.query_ids)
        indices = run.indices[rows] if len(run) else np.full((len(rows), run.depth), -1, dtype=np.int64)
        queries = np.arange(len(rows))[:, None]
        there = (indices >= 0) & (rows >= 0)[:, None]
        return np.where(there, queries * len(run.document_ids) + indices, -1)

    def _ideal(self) -> Integers:
        ideal = np.zeros((len(self.counts), int(self.counts.max())), dtype=np.int64)
        order = np.lexsort((-self._gains, self._owner))
        column = np.arange(len(self._owner)) - np.repeat(np.cumsum(self.counts) - self.counts, self.counts)
        ideal[self._owner, column] = self._gains[order]
        return ideal


def _looked_up(keys: Integers, values: Integers, wanted: Integers) -> Integers:
    """The value at each wanted key, 0 where it is not among the ascending `keys`."""
    if not len(keys):
        return np.zeros(wanted.shape, dtype=np.int64)
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)
