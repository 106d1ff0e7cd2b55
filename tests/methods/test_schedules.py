import pytest

from mmret.methods.schedules import warmed_up, warmup_cosine


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    factor = warmup_cosine(100, 10)
    assert factor(0) == pytest.approx(0.1, rel=0.01)
    assert factor(9) > 0.9
    assert factor(100) == pytest.approx(0, abs=1e-9)


def test_a_warm_up_longer_than_the_training_is_cut() -> None:
    assert warmup_cosine(4, 10_000)(3) == pytest.approx(warmup_cosine(4, 4)(3))


def test_a_linear_schedule_falls_evenly_and_a_constant_one_stays() -> None:
    assert [warmed_up("linear", 4, 0)(step) for step in range(5)] == [1, 0.75, 0.5, 0.25, 0]
    assert [warmed_up("constant", 4, 2)(step) for step in range(4)] == [0.5, 1, 1, 1]
