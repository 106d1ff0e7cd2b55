import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mmret.errors import InputError
from mmret.retrieval import bootstrap_interval, holm, paired_test
from mmret.retrieval.statistics import bootstrap_average_interval


def test_the_interval_of_many_queries_is_the_normal_one():
    values = np.random.default_rng(0).normal(0.4, 0.1, 400)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=5e-4)
    assert high == pytest.approx(values.mean() + half, abs=5e-4)


def test_the_interval_of_two_values_is_that_of_its_three_resamples():
    # Resampled means of (0, 1) are 0, .5, .5 and 1 with probability 1/4 each.
    assert bootstrap_interval([0.0, 1.0], level=0.4) == (0.5, 0.5)
    assert bootstrap_interval([0.0, 1.0], level=0.6) == (0.0, 1.0)
    assert bootstrap_interval([0.3]) == pytest.approx((0.3, 0.3))


def test_clusters_of_copies_count_as_one_query():
    values = np.random.default_rng(1).random(30)
    alone = bootstrap_interval(values, seed=3)
    copied = bootstrap_interval(np.repeat(values, 5), clusters=np.repeat(np.arange(30), 5).tolist(), seed=3)
    independent = bootstrap_interval(np.repeat(values, 5), seed=3)
    assert copied == pytest.approx(alone)
    assert independent[1] - independent[0] < 0.6 * (alone[1] - alone[0])


def test_clusters_of_unequal_sizes_are_weighted_by_their_queries():
    means = bootstrap_interval([1.0, 1.0, 1.0, 0.0], clusters=["a", "a", "a", "b"], level=0.4)
    assert means == (0.75, 0.75)  # one draw of each cluster: three ones among four queries


def test_seeds_widen_the_interval():
    generator = np.random.default_rng(2)
    queries = generator.random(200)
    same = np.stack([queries] * 5)
    spread = same + np.array([[-0.2], [-0.1], [0.0], [0.1], [0.2]])
    one = bootstrap_interval(queries, seed=1)
    assert np.diff(bootstrap_interval(same, seed=1)) == pytest.approx(np.diff(one), rel=0.05)
    variance = 0.02 / 5 + queries.var() / 200  # of the mean: the seeds' part and the queries' part
    low, high = bootstrap_interval(spread, seed=1)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.1)


def test_the_interval_of_an_average_counts_parts_alike_and_draws_within_each():
    generator = np.random.default_rng(4)
    small, large = generator.normal(0.2, 0.1, 100), generator.normal(0.6, 0.1, 1600)
    low, high = bootstrap_average_interval([small, large])
    # Half the mean of each: the small part's spread counts fully, however many queries the other has.
    half = 1.96 * 0.5 * np.sqrt(small.var() / 100 + large.var() / 1600)
    middle = (small.mean() + large.mean()) / 2
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-3)


def test_an_average_draws_its_seeds_once_for_all_parts():
    spread = np.tile([[0.2], [0.4], [0.6]], (1, 5))  # no spread over queries
    alone, averaged = bootstrap_interval(spread), bootstrap_average_interval([spread, spread, spread])
    assert averaged == pytest.approx(alone, abs=0.01)
    clusters = [["a"] * 5, ["a", "b", "c", "d", "e"], list(range(5))]
    assert bootstrap_average_interval([spread] * 3, clusters=clusters) == pytest.approx(averaged, abs=0.01)
    with pytest.raises(InputError, match="the same seeds"):
        bootstrap_average_interval([spread, spread[:2]])


def test_random_numbers_come_from_the_seed_alone():
    values = np.random.default_rng(0).random(50)
    assert bootstrap_interval(values, seed=5) == bootstrap_interval(values, seed=5)
    assert bootstrap_interval(values, seed=5) != bootstrap_interval(values, seed=6)


def test_batches_of_resamples_are_all_counted(monkeypatch):
    monkeypatch.setattr("mmret.retrieval.statistics._DRAWS_AT_A_TIME", 64)
    values = np.random.default_rng(0).random(40)
    low, high = bootstrap_interval(values, samples=2_001)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.02)
    assert paired_test(values, values + 1, flips=999) == 1 / 1000


def test_the_exact_test_enumerates_all_signs():
    differences = np.array([0.1, 0.3, -0.05, 0.2])
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product([-1, 1], repeat=4)]
    expected = np.mean([total >= 0.55 - 1e-12 for total in sums])
    assert paired_test(differences, np.zeros(4)) == expected == 4 / 16


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=9))
def test_the_exact_test_agrees_with_scipy(differences):
    a, b = np.array(differences, dtype=float), np.zeros(len(differences))
    if len(differences) == 1:
        assert paired_test(a, b) == 1.0
        return
    expected = stats.permutation_test(
        (a, b), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", vectorized=True
    )
    assert paired_test(a, b) == pytest.approx(min(1.0, expected.pvalue))


def test_random_flips_agree_with_the_t_test_on_many_queries():
    generator = np.random.default_rng(3)
    a = generator.normal(0.02, 0.2, 500)
    expected = stats.ttest_1samp(a, 0).pvalue
    assert paired_test(a, np.zeros(500)) == pytest.approx(expected, abs=0.01)
    assert paired_test(np.zeros(500), a) == paired_test(a, np.zeros(500))
    assert paired_test(a, a) == 1.0
    assert paired_test(a + 1, np.zeros(500), flips=999) == 1 / 1000


def test_clusters_make_copies_no_evidence():
    a = np.array([0.1, 0.2, 0.3, 0.1])
    many, zeros = np.repeat(a, 10), np.zeros(40)
    assert paired_test(many, zeros) < 0.001
    assert paired_test(many, zeros, clusters=np.repeat(range(4), 10).tolist()) == 2 / 16


def test_seeds_are_averaged_in_the_paired_test():
    a = np.array([[0.1, 0.5, 0.3], [0.3, 0.1, 0.1]])
    assert paired_test(a, np.zeros((2, 3))) == paired_test(a.mean(axis=0), np.zeros(3)) == 2 / 8


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (lambda: bootstrap_interval([]), r"\[0\] is empty or has gaps"),
        (lambda: bootstrap_interval([0.1, np.nan]), "has gaps"),
        (lambda: bootstrap_interval([0.1], level=1.0), "level between 0 and 1"),
        (lambda: bootstrap_interval([0.1], samples=0), "samples from 1 up"),
        (lambda: bootstrap_interval([0.1, 0.2], clusters=["a"]), "1 clusters but 2 queries"),
        (lambda: paired_test([0.1], [0.1, 0.2]), r"not \[1, 1\] and \[1, 2\]"),
        (lambda: paired_test([0.1], [0.1], flips=0), "flips from 1 up"),
        (lambda: holm([0.5, 1.5]), "between 0 and 1"),
        (lambda: holm([np.nan]), "between 0 and 1"),
    ],
)
def test_bad_values_are_refused(call, fault):
    with pytest.raises(InputError, match=fault):
        call()
