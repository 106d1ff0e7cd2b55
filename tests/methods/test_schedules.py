import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mmret.errors import InputError
from mmret.methods.schedules import by_step, warmed_up


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    factor = warmed_up("cosine", 100, 10)
    assert factor(0) == pytest.approx(0.1, rel=0.01)
    assert factor(9) > 0.9
    assert factor(100) == pytest.approx(0, abs=1e-9)


def test_a_warm_up_longer_than_the_training_is_cut() -> None:
    assert warmed_up("cosine", 4, 10_000)(3) == pytest.approx(warmed_up("cosine", 4, 4)(3))


def test_a_linear_schedule_falls_evenly_and_a_constant_one_stays() -> None:
    assert [warmed_up("linear", 4, 0)(step) for step in range(5)] == [1, 0.75, 0.5, 0.25, 0]
    assert [warmed_up("constant", 4, 2)(step) for step in range(4)] == [0.5, 1, 1, 1]


def test_a_training_without_an_end_has_nothing_to_fall_to() -> None:
    endless: Any = SimpleNamespace(estimated_stepping_batches=math.inf)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    with pytest.raises(InputError, match=r"no end for its learning rate to fall to \(cosine\)"):
        by_step(endless, optimizer, 2)
    by_step(endless, optimizer, 2, "constant")
    assert optimizer.param_groups[0]["lr"] == 0.25
