from typing import Any

import numpy as np
import pytest
import torch

from mmret.composition import PDV, ComposedFeatures, Grid, QueryRankings, SweepResult, select, sweep
from mmret.errors import InputError
from mmret.retrieval.index import Index

VAL, TEST = ("toy", "val"), ("toy", "test")
# The image points to document a, the texts from b (reference) to c (composed).
GALLERY = Index(["a", "b", "c"], np.eye(3, dtype=np.float32))
FEATURES = ComposedFeatures(*(torch.eye(3)[row].expand(2, 3) for row in range(3)))
TARGETS = {"q0": 0, "q1": 2}


def success(rankings: QueryRankings) -> Any:
    """Success@1 of each setting."""
    return (rankings.indices[:, 0] == TARGETS[rankings.query_id]).astype(float)


def result(grid: Any, measure: Any = success) -> SweepResult:
    swept = sweep(GALLERY, ["q0", "q1"], FEATURES, grid, 1)
    return select(swept, "success@1", measure, selected_on=VAL, reported_on=TEST)


def test_values_are_means_over_the_queries() -> None:
    found = result([PDV(1, 0, 0.3), PDV(1, 0, 0.7), PDV(0, 0, 1)])  # ranks a first, c first, b first
    assert found.values.tolist() == [0.5, 0.5, 0.0]
    assert found.queries == 2
    assert found.best_value == 0.5


def test_of_equal_settings_the_nearest_to_the_base_is_best() -> None:
    assert result([PDV(1, 0, 0.1), PDV(1, 0, 0.7), PDV(1, 0, 0.9)]).best == PDV(1, 0, 0.9)


def test_the_best_setting_has_the_highest_value() -> None:
    def measure(rankings: QueryRankings) -> Any:
        return np.array([0.1, 0.9, 0.3])

    assert result([PDV(), PDV(1, 0, 0.2), PDV(1, 0, 0.9)], measure).best == PDV(1, 0, 0.2)


def test_selecting_and_reporting_on_one_split_is_refused() -> None:
    swept = sweep(GALLERY, ["q0", "q1"], FEATURES, [PDV()], 1)
    with pytest.raises(InputError, match="selected and reported on toy val"):
        select(swept, "success@1", success, selected_on=VAL, reported_on=VAL)


def test_a_measure_without_a_value_per_setting_is_refused() -> None:
    for wrong in (np.zeros(3), np.array([np.nan])):
        with pytest.raises(InputError, match="success@1 of query 'q0'"):
            result([PDV()], lambda rankings, wrong=wrong: wrong)


def test_the_heat_map_shows_the_best_of_each_cell() -> None:
    grid = Grid((1.0,), (0.0, 0.04), (0.0, 0.5))
    found = result(grid, lambda rankings: np.array([0.1, 0.2, 0.3, 0.4]))
    # β 0: γ = 0 and .04, both in the cell of γ = 0; β .5: γ = .5 and .52.
    betas, gammas, cells = found.heat_map(0.25)
    assert betas.tolist() == [0.0, 0.5]
    assert gammas.tolist() == [0.0, 0.25, 0.5]
    expected = np.full((2, 3), np.nan)
    for setting, value in zip(found.settings, (0.1, 0.2, 0.3, 0.4), strict=True):
        row, column = int(setting.beta > 0), 2 * int(setting.beta > 0)
        expected[row, column] = np.fmax(expected[row, column], value)
    assert np.array_equal(cells, expected, equal_nan=True)
