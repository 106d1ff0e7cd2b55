import pytest

from mmret.methods.schedules import warmup_cosine


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    factor = warmup_cosine(100, 10)
    assert factor(0) == pytest.approx(0.1, rel=0.01)
    assert factor(9) > 0.9
    assert factor(100) == pytest.approx(0, abs=1e-9)


def test_a_warm_up_longer_than_the_training_is_cut() -> None:
    assert warmup_cosine(4, 10_000)(3) == pytest.approx(warmup_cosine(4, 4)(3))
