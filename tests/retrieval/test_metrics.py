import numpy as np
import pytest
import yaml

from mmret.errors import InputError
from mmret.retrieval import metric
from mmret.retrieval.metrics import FAMILIES, Relevance

# Ranks 1 and 4 of five are relevant, with gains 1 and 3; a third relevant document (gain 2) is not found.
ONE = Relevance(np.array([[1, 0, 0, 3, 0]]), np.array([[3, 2, 1]]), np.array([3]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("recall@3", 1 / 3),
        ("recall@5", 2 / 3),
        ("success@1", 1.0),
        ("success_subset@3", 1.0),
        ("map@3", 1 / 3),
        ("map@5", (1 + 2 / 4) / 3),
        ("map@1 (÷ min)", 1.0),
        ("map@2 (÷ min)", 0.5),
        ("map@5 (÷ min)", (1 + 2 / 4) / 3),
        ("mrr@5", 1.0),
        ("ndcg@1", 1 / 3),
        ("ndcg@4", (1 + 3 / np.log2(5)) / (3 + 2 / np.log2(3) + 1 / 2)),
    ],
)
def test_values_by_hand(name, value):
    assert metric(name)(ONE).tolist() == pytest.approx([value])


def test_nothing_found_is_zero_everywhere():
    none = Relevance(np.zeros((1, 5), dtype=np.int64), np.array([[1]]), np.array([1]))
    for family in FAMILIES:
        assert metric(family.format(k=5))(none).tolist() == [0.0]


def test_mrr_is_the_first_relevant_rank():
    late = Relevance(np.array([[0, 0, 1, 1], [0, 0, 0, 1]]), np.array([[1, 1], [1, 0]]), np.array([2, 1]))
    assert metric("mrr@4")(late).tolist() == [1 / 3, 1 / 4]
    assert metric("mrr@3")(late).tolist() == [1 / 3, 0]


def test_average_precision_differs_between_circo_and_trec_where_k_cuts_the_relevant():
    perfect = Relevance(np.ones((1, 10), dtype=np.int64), np.ones((1, 15), dtype=np.int64), np.array([15]))
    assert metric("map@10")(perfect).tolist() == pytest.approx([10 / 15])
    assert metric("map@10 (÷ min)")(perfect).tolist() == [1.0]


def test_a_metric_is_its_text():
    for family in FAMILIES:
        name = family.format(k=25)
        assert str(metric(name)) == repr(metric(name)) == f"{metric(name)}" == name
        assert metric(name) == metric(name)
        assert str(metric(yaml.safe_load(yaml.safe_dump([name], allow_unicode=True))[0])) == name
        assert metric(str(metric(name))) == metric(name)
    assert len({metric("map@5"), metric("map@5 (÷ min)"), metric("map@5")}) == 2
    assert [metric(name).subset for name in ("success@1", "success_subset@1")] == [False, True]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "recall",
        "recall@",
        "recall@0",
        "recall@05",
        "recall@-1",
        "recall@1.5",
        "Recall@5",
        "ap@5",
        "map@5 (/ min)",
        "recall@5 (÷ min)",
        "recall@5 ",
    ],
)
def test_unknown_names_are_answered_with_the_known_ones(name):
    with pytest.raises(
        InputError,
        match=r"recall@k, success@k, success_target@k, ndcg@k, map@k, map@k \(÷ min\), mrr@k, success_sub",
    ):
        metric(name)


def test_success_on_the_target_asks_for_the_best_grade():
    relevance = Relevance(
        gains=np.array([[1, 0, 2], [1, 1, 0]]), ideal=np.array([[2, 1], [2, 1]]), relevant=np.array([2, 2])
    )
    assert metric("success_target@2")(relevance).tolist() == [0, 0]
    assert metric("success_target@3")(relevance).tolist() == [1, 0]
    assert metric("success@1")(relevance).tolist() == [1, 1]
