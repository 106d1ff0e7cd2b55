"""From stored cells to what a table says: estimates with intervals, comparisons with the paper, claims.

All values here are in points: metrics times 100.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from mmret.retrieval.statistics import bootstrap_average_interval, bootstrap_interval, holm, paired_test
from mmret.tables import measures
from mmret.tables.cells import CellRecord
from mmret.tables.server import ServerScores
from mmret.tables.spec import ClaimSpec, RowSpec

SIGNIFICANCE: Final = 0.05
"""Level of the claims' verdicts, after Holm's correction."""

POINTS: Final = 100.0

PaperVerdict = Literal["matches", "inside the interval", "above", "below", "not run", "awaiting server", ""]
ClaimVerdict = Literal["holds", "reversed", "not shown", "not run", "not comparable"]


@dataclass(frozen=True)
class Estimate:
    """A mean over queries (and seeds) with its 95 % bootstrap interval, in points."""

    value: float
    low: float
    high: float
    seeds: int
    queries: int
    references: int


@dataclass(frozen=True)
class ServerValue:
    """A mean over all queries as an evaluation server gave it, in points, and the latest day of its scores."""

    value: float
    day: str


@dataclass(frozen=True)
class Comparison:
    """Ours beside the paper's number.

    `paper` is None where the table holds no number; `delta` (ours − paper, points) is None unless both
    numbers are there.
    """

    paper: float | None
    delta: float | None
    verdict: PaperVerdict


@dataclass(frozen=True)
class ClaimResult:
    """A claim's answer: the paired difference row − against with what speaks for it.

    Attributes:
        claim: The claim.
        difference: Mean and interval over seeds and references, in points; None when a row is missing.
        p: Of the two-sided sign-flip test over references, uncorrected; None likewise.
        p_holm: After Holm's correction over all claims of the table.
        seeds_in_favour: Seeds whose mean difference is positive.
        verdict: See docs/tables.md.
    """

    claim: ClaimSpec
    difference: Estimate | None
    p: float | None
    p_holm: float | None
    seeds_in_favour: int
    verdict: ClaimVerdict


def estimate(records: Sequence[CellRecord], metric: str) -> Estimate | None:
    """The mean of a row's cells (one a seed) in a metric; None without cells, or with one that awaits a server."""
    if not records or any(record.outcome.submission for record in records):
        return None
    return _estimate(_stack(records, metric), records[0])


def _stack(records: Sequence[CellRecord], metric: str) -> NDArray[np.floating]:
    """A metric of a row's cells, [S, Q]."""
    return np.stack([measures.values(record.outcome.per_query, metric) for record in records])


def _estimate(values: NDArray[np.floating], record: CellRecord) -> Estimate:
    """Values [S, Q] of the record's queries, 0…1; resampled over seeds and over reference images."""
    references = record.outcome.references
    low, high = bootstrap_interval(values, clusters=references)
    return Estimate(
        value=POINTS * float(values.mean()),
        low=POINTS * low,
        high=POINTS * high,
        seeds=values.shape[0],
        queries=values.shape[1],
        references=len(set(references)),
    )


@dataclass(frozen=True)
class RowResult:
    """A row with what its cells gave.

    Attributes:
        spec: The row.
        records: Its cells; none for an average.
        estimates: Metric → our own number, where the ground truth is public.
        server: Metric → what an evaluation server gave, where it is not.
        comparisons: Metric → ours, of either kind, beside the paper.
        reason: Why cells are missing ("" when none is).
    """

    spec: RowSpec
    records: tuple[CellRecord, ...]
    estimates: Mapping[str, Estimate | None]
    server: Mapping[str, ServerValue]
    comparisons: Mapping[str, Comparison]
    reason: str

    @property
    def submitted(self) -> bool:
        """Whether a cell of the row left files for an evaluation server instead of numbers."""
        return any(record.outcome.submission for record in self.records)


def summarise_row(
    row: RowSpec,
    records: Sequence[CellRecord],
    scores: Sequence[ServerScores],
    reasons: Sequence[str],
    tolerance: float,
) -> RowResult:
    """A row's estimates and comparisons in every metric.

    Args:
        row: The row.
        records: Its cells, one a seed.
        scores: What an evaluation server gave for these cells.
        reasons: Why others are missing; several become one text, each once.
        tolerance: Points by which ours may miss the paper's and still match it.
    """
    estimates = {name: estimate(records, name) for name in row.metrics}
    complete = len(scores) == len(records) > 0
    server = {name: value for name in row.metrics if complete and (value := _server_value(scores, name))}
    ours = {name: estimates[name] or server.get(name) for name in row.metrics}
    awaiting = any(record.outcome.submission for record in records)
    comparisons = {name: compare(row, name, item, tolerance, awaiting) for name, item in ours.items()}
    reason = " ".join(dict.fromkeys(reasons))
    return RowResult(row, tuple(records), estimates, server, comparisons, reason)


def _server_value(scores: Sequence[ServerScores], metric: str) -> ServerValue | None:
    """The mean over the row's seeds; None until every seed has its score."""
    values = [value for score in scores if (value := score.value(metric)) is not None]
    if len(values) < len(scores):
        return None
    return ServerValue(sum(values) / len(values), max(score.day(metric) for score in scores))


def summarise_average(row: RowSpec, parts: Sequence[RowResult], tolerance: float) -> RowResult:
    """A row that is the mean of others, each counting alike; it has a number where all of them have one."""
    estimates = {name: _average(parts, name) for name in row.metrics}
    comparisons = {name: compare(row, name, item, tolerance) for name, item in estimates.items()}
    lacking = [part.spec.benchmark for part in parts if not part.records]
    reason = f"the average needs {', '.join(lacking)} too." if lacking else ""
    return RowResult(row, (), estimates, {}, comparisons, reason)


def _average(parts: Sequence[RowResult], metric: str) -> Estimate | None:
    """The mean of the parts' means, with queries resampled within each part and seeds over all of them."""
    seeds = set.intersection(*({record.seed for record in part.records} for part in parts))
    cells = [[record for record in part.records if record.seed in seeds] for part in parts]
    if not seeds or any(part.estimates[metric] is None for part in parts):
        return None
    values = [_stack(records, metric) for records in cells]
    references = [records[0].outcome.references for records in cells]
    low, high = bootstrap_average_interval(values, clusters=references)
    return Estimate(
        value=POINTS * float(np.mean([table.mean() for table in values])),
        low=POINTS * low,
        high=POINTS * high,
        seeds=len(seeds),
        queries=sum(table.shape[1] for table in values),
        references=sum(len(set(labels)) for labels in references),
    )


def compare(
    row: RowSpec, metric: str, ours: Estimate | ServerValue | None, tolerance: float, awaiting: bool = False
) -> Comparison:
    """Ours beside the number that the row's paper printed, rounded as it is printed here (2 decimals).

    Args:
        row: Has the paper's numbers.
        metric: Which of them.
        ours: Our number, or a server's for our submission (which has no interval).
        tolerance: Points by which ours may miss the paper's and still match it.
        awaiting: Whether a submission is written, if there is no number.
    """
    paper = row.published.get(metric)
    if ours is None:
        return Comparison(paper, None, "awaiting server" if awaiting else "not run")
    if paper is None:
        return Comparison(None, None, "")
    delta = round(round(ours.value, 2) - paper, 2)
    if abs(delta) <= tolerance:
        return Comparison(paper, delta, "matches")
    if isinstance(ours, Estimate) and ours.low <= paper <= ours.high:
        return Comparison(paper, delta, "inside the interval")
    return Comparison(paper, delta, "above" if delta > 0 else "below")


def decide_claims(
    claims: Sequence[ClaimSpec], records: Mapping[str, Sequence[CellRecord]]
) -> tuple[ClaimResult, ...]:
    """Answer the claims of one table; `records` holds each row's cells.

    Holm's family is all claims of the table: one that has not been run counts with p = 1, so that leaving
    rows out never makes the others look better.
    """
    answers = [_difference(claim, records) for claim in claims]
    corrected = holm([1.0 if answer.p is None else answer.p for answer in answers])
    return tuple(
        answer if answer.p is None else _with_verdict(answer, p)
        for answer, p in zip(answers, corrected, strict=True)
    )


def _difference(claim: ClaimSpec, records: Mapping[str, Sequence[CellRecord]]) -> ClaimResult:
    sides = [
        [cell for cell in records.get(name, ()) if cell.outcome.per_query]
        for name in (claim.row, claim.against)
    ]
    pairs = _pairs(*sides)
    if not pairs:
        return ClaimResult(claim, None, None, None, 0, "not run")
    if any(_queries(ours) != _queries(theirs) for ours, theirs in pairs):
        return ClaimResult(claim, None, None, None, 0, "not comparable")
    ours, theirs = (_stack(side, claim.metric) for side in zip(*pairs, strict=True))
    margin = claim.margin / POINTS
    p = paired_test(ours + margin, theirs, clusters=pairs[0][0].outcome.references)
    favour = int(((ours - theirs).mean(axis=1) > -margin).sum())
    return ClaimResult(claim, _estimate(ours - theirs, pairs[0][0]), p, None, favour, "not shown")


def _pairs(ours: Sequence[CellRecord], theirs: Sequence[CellRecord]) -> list[tuple[CellRecord, CellRecord]]:
    """Cells of the same seed; a row that trains nothing has one cell, which stands beside every seed."""
    if _untrained(ours) or _untrained(theirs):
        return [(mine, other) for mine in ours for other in theirs]
    others = {record.seed: record for record in theirs}
    return [(record, others[record.seed]) for record in ours if record.seed in others]


def _untrained(records: Sequence[CellRecord]) -> bool:
    return all(record.description["train"] is None for record in records)


def _queries(record: CellRecord) -> list[str]:
    return list(record.outcome.query_ids)


def _with_verdict(answer: ClaimResult, p_holm: float) -> ClaimResult:
    """Both must agree: the test over references, and the interval over seeds and references."""
    verdict: ClaimVerdict = "not shown"
    if answer.difference is not None and p_holm < SIGNIFICANCE:
        if answer.difference.low > -answer.claim.margin:
            verdict = "holds"
        elif answer.difference.high < -answer.claim.margin:
            verdict = "reversed"
    return replace(answer, p_holm=p_holm, verdict=verdict)
