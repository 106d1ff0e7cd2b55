"""PDV's knobs chosen on one split, to be reported on another."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mmret.composition.pdv import PDV
from mmret.composition.sweep import QueryRankings, Sweep
from mmret.errors import InputError

Doubles = NDArray[np.float64]

Measure = Callable[[QueryRankings], Doubles]
"""What a query's rankings are worth under each setting: [S], higher is better."""

Split = tuple[str, str]
"""A benchmark's name and a split of it: ("miniature", "val")."""

PROGRESS_AFTER_S = 5.0


@dataclass(frozen=True, eq=False, repr=False)
class SweepResult:
    """A whole grid's values of one metric, and the setting chosen by them.

    Attributes:
        metric: name of the metric.
        selected_on: where the values were measured.
        reported_on: where the chosen setting may be reported; never the same.
        queries: how many queries the values are means over.
        settings: S settings.
        beta: float64 [S].
        gamma: float64 [S], (1 − β)·α_image + β·α_text; the mean over queries where α_image is automatic.
        values: float64 [S], the mean of the metric over the queries.
    """

    metric: str
    selected_on: Split
    reported_on: Split
    queries: int
    settings: tuple[PDV, ...]
    beta: Doubles
    gamma: Doubles
    values: Doubles

    def __repr__(self) -> str:
        where = " ".join(self.selected_on)
        return f"SweepResult({self.best}: {self.metric} {self.best_value:.4f} on {where})"

    @property
    def best(self) -> PDV:
        """The setting with the highest value; of equal ones the nearest to the base method, β = γ = 1."""
        return self.settings[self._best_row]

    @property
    def best_value(self) -> float:
        """The value of `best`."""
        return float(self.values[self._best_row])

    @property
    def _best_row(self) -> int:
        distance = np.abs(self.beta - 1) + np.abs(self.gamma - 1)
        # Means of equal values may differ by the rounding of a sum.
        return int(np.lexsort((distance, -self.values.round(12)))[0])

    def heat_map(self, gamma_step: float = 0.1) -> tuple[Doubles, Doubles, Doubles]:
        """β [b], γ [g] and the values [b, g] over them, for a picture.

        γ takes many values on a grid of α's, so it is rounded to multiples of `gamma_step`; a cell holds its
        best setting's value, NaN where it has none.
        """
        betas, rows = np.unique(self.beta.round(9), return_inverse=True)
        steps = np.rint(self.gamma / gamma_step).astype(np.int64)
        first, last = int(steps.min()), int(steps.max())
        cells = np.full((len(betas), last - first + 1), np.nan)
        np.fmax.at(cells, (rows, steps - first), self.values)
        gammas: Doubles = np.arange(first, last + 1) * np.float64(gamma_step)
        return betas, gammas, cells


def select(
    sweep: Sweep, metric: str, measure: Measure, *, selected_on: Split, reported_on: Split
) -> SweepResult:
    """Measure every setting of a sweep, and choose the best.

    The paper chooses the best of three trials with no held-out data; here the setting is chosen on one split
    and reported on another, and both are named before anything is computed.

    Args:
        sweep: from `mmret.composition.sweep`, over the queries of the split to select on. It is consumed
            query by query, so that no ranking is kept.
        metric: name of the metric, for the record.
        measure: that metric of one query's rankings.
        selected_on: benchmark and split of the sweep's queries.
        reported_on: benchmark and split on which the result will be used.

    Raises:
        InputError: if the two splits are the same, or `measure` does not give a finite value per setting.
    """
    if selected_on == reported_on:
        raise InputError(
            f"PDV would be selected and reported on {' '.join(selected_on)}; select it on another split, "
            "such as val, or cross-fit it."
        )
    totals = _totals(sweep, metric, measure, np.zeros(len(sweep), np.int64))
    return _result(sweep, metric, selected_on, reported_on, totals[0], len(sweep))


def cross_fit(
    sweep: Sweep, metric: str, measure: Measure, folds: NDArray[np.int64], *, split: Split
) -> tuple[SweepResult, ...]:
    """For every fold of the queries the setting that is best on the others, where there is no other split.

    Args:
        sweep, metric, measure: as in `select`; the sweep is over all queries.
        folds: int64 [Q], each query's fold, 0 … F − 1; queries of one reference belong into one.
        split: benchmark and split of the queries.

    Returns:
        One result a fold, selected on the others.

    Raises:
        InputError: there is only one fold, or `measure` does not give a finite value per setting.
    """
    totals = _totals(sweep, metric, measure, folds)
    if len(totals) < 2:
        raise InputError("cross-fitting needs at least two folds of reference images.")
    counts, (name, part) = np.bincount(folds), split
    everything = totals.sum(axis=0)
    return tuple(
        _result(
            sweep, metric, (name, f"{part} without fold {fold}"), (name, f"{part} fold {fold}"),
            everything - totals[fold], len(sweep) - int(counts[fold]),
        )
        for fold in range(len(totals))
    )  # fmt: skip


def deal_folds(references: Sequence[str], folds: int) -> NDArray[np.int64]:
    """Each query's fold, int64 [Q], by its reference image: the same on every machine, folds of equal size.

    Raises:
        InputError: fewer than two folds, or more than there are reference images.
    """
    names = sorted(set(references), key=lambda name: hashlib.sha256(name.encode()).digest())
    if not 2 <= folds <= len(names):
        raise InputError(
            f"{folds} folds of {len(names)} reference images; give 2 or more, and no more than images."
        )
    fold_of = {name: place % folds for place, name in enumerate(names)}
    return np.array([fold_of[name] for name in references], np.int64)


def _totals(sweep: Sweep, metric: str, measure: Measure, folds: NDArray[np.int64]) -> Doubles:
    """Sums of the metric over the queries of each fold, [F, S]."""
    totals = np.zeros((int(folds.max()) + 1, len(sweep.settings)))
    title = f"sweep of {len(sweep.settings):,} settings"
    for fold, rankings in zip(folds, tqdm(sweep, desc=title, delay=PROGRESS_AFTER_S), strict=True):
        values = np.asarray(measure(rankings), np.float64)
        if values.shape != totals[0].shape or not np.isfinite(values).all():
            raise InputError(f"{metric} of query {rankings.query_id!r} is not one finite value per setting.")
        totals[fold] += values
    return totals


def _result(
    sweep: Sweep, metric: str, selected_on: Split, reported_on: Split, total: Doubles, queries: int
) -> SweepResult:
    gamma = sweep.gamma.mean(axis=1)
    return SweepResult(
        metric, selected_on, reported_on, queries, sweep.settings, sweep.beta, gamma, total / queries
    )
