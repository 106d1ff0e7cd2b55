"""From stored cells to what a table says: estimates with intervals, comparisons with the paper, claims.

All values here are in points: metrics times 100.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from mmret.retrieval.statistics import bootstrap_interval, holm, paired_test
from mmret.tables.cells import CellRecord
from mmret.tables.spec import ClaimSpec, RowSpec

SIGNIFICANCE: Final = 0.05
"""Level of the claims' verdicts, after Holm's correction."""

POINTS: Final = 100.0

PaperVerdict = Literal["matches", "inside the interval", "above", "below", "not run", ""]
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
    """The mean of a row's cells (one a seed) in a metric, or None when there are no cells."""
    if not records:
        return None
    return _estimate(np.stack([record.outcome.per_query[metric] for record in records]), records[0])


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
    """A row with what its cells gave; `reason` says why cells are missing ("" when none is)."""

    spec: RowSpec
    records: tuple[CellRecord, ...]
    estimates: Mapping[str, Estimate | None]
    comparisons: Mapping[str, Comparison]
    reason: str


def summarise_row(
    row: RowSpec,
    records: Sequence[CellRecord],
    reasons: Sequence[str],
    metrics: Sequence[str],
    tolerance: float,
) -> RowResult:
    """A row's estimates and comparisons in every metric; several reasons become one text, each once."""
    estimates = {name: estimate(records, name) for name in metrics}
    comparisons = {name: compare(row, name, estimates[name], tolerance) for name in metrics}
    return RowResult(row, tuple(records), estimates, comparisons, " ".join(dict.fromkeys(reasons)))


def compare(row: RowSpec, metric: str, ours: Estimate | None, tolerance: float) -> Comparison:
    """Ours beside the number that the row's paper printed, rounded as it is printed here (2 decimals)."""
    paper = row.published.get(metric)
    if ours is None:
        return Comparison(paper, None, "not run")
    if paper is None:
        return Comparison(None, None, "")
    delta = round(round(ours.value, 2) - paper, 2)
    if abs(delta) <= tolerance:
        return Comparison(paper, delta, "matches")
    if ours.low <= paper <= ours.high:
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
    pairs = _pairs(records.get(claim.row, ()), records.get(claim.against, ()))
    if not pairs:
        return ClaimResult(claim, None, None, None, 0, "not run")
    if any(_queries(ours) != _queries(theirs) for ours, theirs in pairs):
        return ClaimResult(claim, None, None, None, 0, "not comparable")
    ours, theirs = (
        np.stack([record.outcome.per_query[claim.metric] for record in side])
        for side in zip(*pairs, strict=True)
    )
    p = paired_test(ours, theirs, clusters=pairs[0][0].outcome.references)
    favour = int(((ours - theirs).mean(axis=1) > 0).sum())
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
        if answer.difference.low > 0:
            verdict = "holds"
        elif answer.difference.high < 0:
            verdict = "reversed"
    return replace(answer, p_holm=p_holm, verdict=verdict)
