"""What is done with the three features of a row: nothing, a scoring, or PDV as given, preset or chosen elsewhere."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmret.backbones.spec import BackboneSpec
from mmret.composition import PDV, ComposedFeatures
from mmret.composition.grid import GRIDS
from mmret.composition.presets import (
    CROSS_FIT,
    PRESETS,
    automatic_setting,
    paper_setting,
    selection_split,
)
from mmret.composition.scores import Settled, columns, with_columns
from mmret.composition.scoring import Transform, scoring_from_spec
from mmret.composition.selection import SweepResult, cross_fit, deal_folds, select
from mmret.composition.sweep import QueryRankings, Sweep, sweep
from mmret.encoded_benchmark import EncodedBenchmark
from mmret.errors import InputError
from mmret.retrieval.metrics import Relevance, metric

#: Folds of a cross-fitted choice, unless a row says otherwise.
FOLDS = 5

Elsewhere = Callable[[str], tuple[Settled, EncodedBenchmark]]
"""The same method on another split: its features, and what they are searched in."""


@dataclass(frozen=True)
class Choice:
    """A row's transform, and what is worth recording of how it was found."""

    transform: Transform | None = None
    pdv: Mapping[str, Any] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class CrossFitted:
    """PDV with each query's setting chosen on the folds that it is not in.

    Attributes:
        settings: One a fold.
        folds: int64 [Q], each query's fold.
    """

    settings: tuple[PDV, ...]
    folds: NDArray[np.int64]

    def __call__(self, features: Settled) -> Tensor:
        """The query vectors [Q, D]."""
        three = _three(features)
        vectors = torch.empty_like(three.composed_text)
        for fold, setting in enumerate(self.settings):
            rows = torch.from_numpy(np.flatnonzero(self.folds == fold))
            some = with_columns(three, {name: values[rows] for name, values in columns(three).items()})
            vectors[rows] = setting(some)
        return vectors


@dataclass(frozen=True)
class Row:
    """What a choice may depend on."""

    features: Settled
    encoded: EncodedBenchmark
    method: str
    spec: BackboneSpec
    elsewhere: Elsewhere


def choose(pdv: Mapping[str, Any] | str | None, scoring: Mapping[str, Any] | str | None, row: Row) -> Choice:
    """The transform of a row, as its `pdv` or `scoring` says (see docs/tables.md).

    Raises:
        InputError: both are given; a preset, grid, split or knob is unknown; the method has no three features.
    """
    if scoring is not None:
        if pdv is not None:
            raise InputError(
                "A row has a 'pdv' and a 'scoring'; both act on the three features, so give one."
            )
        return Choice(scoring_from_spec(scoring))
    if pdv is None:
        return Choice()
    wanted = _as_mapping(pdv)
    preset = wanted.get("preset")
    if preset is not None and preset not in PRESETS:
        raise InputError(f"There is no PDV preset {preset!r}; there are {', '.join(PRESETS)}.")
    if preset == "pdv-paper":
        benchmark = row.encoded.benchmark.name
        return _fixed(paper_setting(wanted, row.method, benchmark, row.spec.architecture))
    if preset == "pdv-auto" and set(wanted) > {"preset"}:
        raise InputError(f"pdv-auto chooses nothing and takes nothing, and was given {', '.join(wanted)}.")
    if preset == "pdv-auto":
        return _fixed(automatic_setting())
    if preset == "pdv-val" or "select" in wanted:
        return _chosen(wanted, row)
    return _fixed(PDV.from_spec(wanted))


def _as_mapping(pdv: Mapping[str, Any] | str) -> Mapping[str, Any]:
    """A setting's text, the name of a preset, or "auto" (pdv-auto) as a mapping."""
    if not isinstance(pdv, str):
        return pdv
    name = {"auto": "pdv-auto"}.get(pdv, pdv)
    return {"preset": name} if name in PRESETS else PDV.from_spec(pdv).to_dict()


def _fixed(setting: PDV) -> Choice:
    return Choice(setting, setting.to_dict())


def _chosen(wanted: Mapping[str, Any], row: Row) -> Choice:
    """PDV chosen by a sweep on another split, or cross-fitted on the reported one."""
    _three(row.features)
    unknown = sorted(set(wanted) - {"preset", "select", "split", "grid", "metric", "folds"})
    if unknown:
        raise InputError(
            f"A choice of PDV has no {', '.join(unknown)}; it takes select, grid, metric, folds."
        )
    benchmark = row.encoded.benchmark
    split = str(wanted.get("select") or wanted.get("split") or selection_split(benchmark.name))
    if split == CROSS_FIT:
        return _cross_fitted(row, wanted)
    features, encoded = row.elsewhere(split)
    chosen = select_pdv(_three(features), encoded, wanted, (benchmark.name, benchmark.split))
    facts = {
        "selected_on": list(chosen.selected_on),
        "metric": chosen.metric,
        "value": chosen.best_value,
    }
    return Choice(chosen.best, chosen.best.to_dict(), facts, sweep_arrays(chosen))


def select_pdv(
    features: ComposedFeatures,
    encoded: EncodedBenchmark,
    settings: Mapping[str, Any],
    reported_on: tuple[str, str],
) -> SweepResult:
    """Sweep PDV over a benchmark split and choose the best setting, to be reported on another split.

    `settings`: `metric` (by default the benchmark's headline) and `grid`, a name of `mmret.composition.grid.GRIDS`.
    """
    name, sweeping = _sweep(features, encoded, settings)
    split = (encoded.benchmark.name, encoded.benchmark.split)
    return select(sweeping, name, _measure(encoded, name), selected_on=split, reported_on=reported_on)


def _cross_fitted(row: Row, settings: Mapping[str, Any]) -> Choice:
    benchmark = row.encoded.benchmark
    references = [query.reference or query.id for query in benchmark.queries]
    folds = deal_folds(references, int(settings.get("folds", FOLDS)))
    name, sweeping = _sweep(_three(row.features), row.encoded, settings)
    split = (benchmark.name, benchmark.split)
    results = cross_fit(sweeping, name, _measure(row.encoded, name), folds, split=split)
    fitted = CrossFitted(tuple(result.best for result in results), folds)
    record = {f"fold {fold}": str(setting) for fold, setting in enumerate(fitted.settings)}
    value = float(np.mean([result.best_value for result in results]))
    selected_on = [benchmark.name, f"{benchmark.split}, cross-fitted"]
    facts = {"selected_on": selected_on, "metric": name, "value": value}
    return Choice(fitted, record, facts, {"folds": folds.astype(np.float64)})


def _sweep(
    features: ComposedFeatures, encoded: EncodedBenchmark, settings: Mapping[str, Any]
) -> tuple[str, Sweep]:
    """The metric's name, and the sweep of its rankings: over pools for a metric of pools, or by the protocol."""
    benchmark = encoded.benchmark
    name = str(settings.get("metric", benchmark.metrics[0]))
    grid = str(settings.get("grid", "paper"))
    if grid not in GRIDS:
        raise InputError(f"There is no grid of PDV settings {grid!r}; there are {', '.join(GRIDS)}.")
    wanted = metric(name)
    unjudged = [query for query in encoded.query_ids if query not in benchmark.judgements]
    if unjudged:
        raise InputError(
            f"PDV cannot be chosen on {benchmark.name} {benchmark.split}: {len(unjudged):,} of its queries have no "
            "public ground truth; choose on another split, such as val."
        )
    pools = benchmark.pools if wanted.subset else benchmark.searched_pools
    exclude = None if wanted.subset else benchmark.exclusions
    swept = sweep(
        encoded.index,
        encoded.query_ids,
        features,
        GRIDS[grid],
        wanted.k,
        exclude=exclude,
        pools=pools,
    )
    return name, swept


def _measure(encoded: EncodedBenchmark, name: str) -> Callable[[QueryRankings], NDArray[np.float64]]:
    """The metric of one query's rankings under S settings, [S]."""
    wanted, judgements, positions = metric(name), encoded.benchmark.judgements, encoded.index.positions

    def measure(rankings: QueryRankings) -> NDArray[np.float64]:
        judged = judgements[rankings.query_id]
        gains = np.zeros(len(encoded.index) + 1, dtype=np.int64)  # the last place is that of padding, -1
        for document, gain in judged.items():
            gains[positions[document]] = gain
        settings = len(rankings.indices)
        ideal = np.tile(np.sort(list(judged.values()))[::-1], (settings, 1))
        return wanted(Relevance(gains[rankings.indices], ideal, np.full(settings, len(judged))))

    return measure


def _three(features: Settled) -> ComposedFeatures:
    if isinstance(features, ComposedFeatures):
        return features
    raise InputError("This row asks for PDV, but its method has no reference text to act on.")


def sweep_arrays(chosen: SweepResult) -> dict[str, NDArray[np.float64]]:
    """The sweep that chose a setting, as arrays for a cell's record."""
    return {"sweep/beta": chosen.beta, "sweep/gamma": chosen.gamma, "sweep/values": chosen.values}
