import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmret.errors import InputError
from mmret.retrieval import Run, evaluate
from tests.retrieval import reference

NAMES = ["recall", "success", "ndcg", "map", "map (÷ min)", "mrr"]


def ranked(rankings, documents=("a", "b", "c", "d"), scores=None):
    """A run from {query: ids}, padded to the longest."""
    k = max(map(len, rankings.values()), default=0)
    indices = np.full((len(rankings), k), -1)
    values = np.full((len(rankings), k), -np.inf)
    for row, ids in enumerate(rankings.values()):
        indices[row, : len(ids)] = [documents.index(name) for name in ids]
        values[row, : len(ids)] = scores or -np.arange(len(ids))
    return Run(tuple(rankings), tuple(documents), indices, values)


def test_values_by_query_in_the_order_of_the_judgements():
    run = ranked({"q1": ["a", "b", "c"], "q2": ["d", "c", "b"], "unjudged": ["a", "b", "c"]})
    result = evaluate(run, {"q2": {"b": 1, "d": 0}, "q1": {"a": 1, "z": 2}}, ["recall@3", "mrr@3"])
    assert result.query_ids == ("q2", "q1")
    assert result.per_query["recall@3"].tolist() == [1.0, 0.5]
    assert result.per_query["mrr@3"].tolist() == [1 / 3, 1.0]
    assert result.means == {"recall@3": 0.75, "mrr@3": pytest.approx(2 / 3)}
    assert (result.ties, result.missing, result.unreachable) == (0, 0, 1)
    assert repr(result) == "Evaluation(2 queries: recall@3 0.7500, mrr@3 0.6667; 0 ties)"


def test_judged_queries_missing_from_the_run_count_zero():
    run = ranked({"q1": ["a"]})
    result = evaluate(run, {"q1": {"a": 1}, "q2": {"a": 1}, "q3": {"b": 1}}, ["recall@1", "ndcg@1"])
    assert result.per_query["ndcg@1"].tolist() == [1.0, 0.0, 0.0]
    assert result.means["recall@1"] == pytest.approx(1 / 3)
    assert result.missing == 2
    empty = Run((), ("a",), np.empty((0, 1)), np.empty((0, 1)))
    assert evaluate(empty, {"q1": {"a": 1}}, ["recall@1"]).means == {"recall@1": 0.0}


def test_subset_metrics_look_at_the_run_over_the_pools():
    run, pools = ranked({"q": ["a", "b"]}), ranked({"q": ["b", "c"]})
    metrics = ["success@1", "success_subset@1", "success_subset@2"]
    result = evaluate(run, {"q": {"c": 1}}, metrics, subset_run=pools)
    assert result.means == {"success@1": 0.0, "success_subset@1": 0.0, "success_subset@2": 1.0}
    with pytest.raises(InputError, match="success_subset@1 looks at the run over each query's pool"):
        evaluate(run, {"q": {"c": 1}}, metrics)


def test_ties_of_judged_queries_are_counted():
    run = ranked(
        {"q1": ["a", "b", "c"], "q2": ["a", "b", "c"], "q3": ["a", "b", "c"]}, scores=[1.0, 1.0, 1.0]
    )
    judgements = {"q1": {"a": 1}, "q3": {"a": 1}, "missing": {"a": 1}}
    assert evaluate(run, judgements, ["mrr@3"]).ties == 4
    assert evaluate(run, judgements, ["mrr@3", "success_subset@1"], subset_run=run).ties == 8


@pytest.mark.parametrize(
    ("judgements", "metrics", "fault"),
    [
        ({}, ["recall@1"], "no judgements"),
        ({"q": {"a": 1}, "p": {"a": 0}, "o": {}}, ["recall@1"], "2 judged queries .* first 'p'"),
        ({"q": {"a": 1}}, ["recall@3"], "recall@3 needs 3 ranks, but the run keeps 2"),
        ({"q": {"a": 1}}, ["accuracy"], "no metric 'accuracy'"),
        ({"q": {"a": 0.5}}, ["ndcg@1"], "A gain is a whole number"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(judgements, metrics, fault):
    with pytest.raises(InputError, match=fault):
        evaluate(ranked({"q": ["a", "b"]}), judgements, metrics)


@given(st.data())
def test_every_metric_is_its_definition(data):
    documents = [f"d{number}" for number in range(12)]
    k = data.draw(st.integers(1, 12))
    rankings = {
        f"q{number}": data.draw(st.permutations(documents))[: data.draw(st.integers(0, k))]
        for number in range(data.draw(st.integers(0, 4)))
    }
    rankings["full"] = data.draw(st.permutations(documents))[:k]
    gains = st.dictionaries(st.sampled_from([*documents, "absent"]), st.integers(-1, 3))
    relevant = gains.filter(lambda judged: any(gain > 0 for gain in judged.values()))
    judgements = {name: data.draw(relevant) for name in [*list(rankings)[::2], "full", "missing"]}
    depth = data.draw(st.integers(1, k))
    names = {name: f"{name.split()[0]}@{depth}{name[len(name.split()[0]) :]}" for name in NAMES}
    result = evaluate(ranked(rankings, documents), judgements, list(names.values()))
    for name, text in names.items():
        expected = [
            reference.metric(name, depth, rankings.get(query, []), judged)
            for query, judged in judgements.items()
        ]
        assert result.per_query[text].tolist() == pytest.approx(expected)
        assert result.means[text] == pytest.approx(np.mean(expected))


def test_renaming_queries_and_shuffling_the_run_change_nothing():
    generator = np.random.default_rng(0)
    documents = [f"d{number}" for number in range(30)]
    rankings = {f"q{number}": list(generator.permutation(documents)[:10]) for number in range(8)}
    judgements = {name: {str(generator.choice(documents)): 1} for name in rankings}
    shuffled = {name: rankings[name] for name in generator.permutation(list(rankings))}
    for text in ("ndcg@10", "map@5"):
        one = evaluate(ranked(rankings, documents), judgements, [text])
        other = evaluate(ranked(shuffled, documents), judgements, [text])
        assert one.per_query[text].tolist() == other.per_query[text].tolist()
