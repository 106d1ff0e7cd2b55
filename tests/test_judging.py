from collections.abc import Collection, Iterator
from dataclasses import replace

import numpy as np
import pytest

from mmret.data.benchmark import Benchmark, Query
from mmret.data.images import FileImages
from mmret.data.text_sources import MappedTexts
from mmret.errors import InputError
from mmret.judging import DEPTH, evaluate_run, judge_answers, run_depth
from mmret.retrieval.run import Run

TEXTS = {"a": "born in Paris", "b": "Rome, not Paris", "c": "nothing", "d": "Oslo"}


def benchmark(*metrics: str) -> Benchmark:
    queries = (
        Query("q1", None, ("where?",), {"a": 1}, answers=("Paris",)),
        Query("q2", None, ("which?",), answers=("Oslo", "Rome")),
        Query("q3", None, ("who?",), answers=("Turing",)),
    )
    texts = MappedTexts(TEXTS)
    return Benchmark("asked", "1", "test", FileImages({}), (), queries, metrics=metrics, page_texts=texts)


def run(*rankings: tuple[str, str]) -> Run:
    """Rankings of a, b, c and d, by their letters."""
    documents = tuple(TEXTS)
    indices = np.array([[documents.index(letter) for letter in ranking] for _, ranking in rankings])
    scores = np.broadcast_to(-np.arange(indices.shape[1], dtype=np.float32), indices.shape)
    return Run(tuple(query for query, _ in rankings), documents, indices, scores)


def test_every_query_counts_also_without_a_ranking_or_a_right_document() -> None:
    found = evaluate_run(run(("q1", "ca"), ("q3", "ab")), benchmark("answer_accuracy@1", "answer_accuracy@2"))
    assert found.query_ids == ("q1", "q2", "q3")
    assert found.per_query["answer_accuracy@1"].tolist() == [0, 0, 0]
    assert found.per_query["answer_accuracy@2"].tolist() == [1, 0, 0]
    assert found.means == {"answer_accuracy@1": 0, "answer_accuracy@2": pytest.approx(1 / 3)}
    assert (found.missing, found.unreachable) == (1, 0)


def test_targets_and_answers_are_metrics_of_their_own() -> None:
    judged = benchmark("success@2", "answer_accuracy@2")
    same = replace(judged, queries=judged.queries[:1])
    found = evaluate_run(run(("q1", "bc")), same)
    assert found.means == {"success@2": 0, "answer_accuracy@2": 1}
    with pytest.raises(InputError, match="1 queries have judgements and 3 have answers"):
        evaluate_run(run(("q1", "bc")), judged)


def test_each_ranked_text_is_read_once_and_no_other() -> None:
    read: list[str] = []

    class Counting:
        def read(self, ids: Collection[str] | None = None) -> Iterator[tuple[str, str]]:
            assert ids is not None
            for id in ids:
                read.append(id)
                yield id, TEXTS[id]

    answers = {"q1": ("Paris",), "q2": ("Rome",)}
    found = judge_answers(run(("q1", "abd"), ("q2", "bad")), answers, Counting(), 2)
    assert sorted(read) == ["a", "b"]
    assert found == {"q1": {"a": 1, "b": 1}, "q2": {"b": 1}}


def test_a_ranked_document_without_a_text_is_named() -> None:
    with pytest.raises(InputError, match="1 ranked documents have no text to look for answers in, first 'd'"):
        judge_answers(run(("q1", "ad")), {"q1": ("Paris",)}, MappedTexts({"a": "Paris"}), 2)
    with pytest.raises(InputError, match="asked test has no texts to look for answers in"):
        evaluate_run(run(("q1", "ad")), replace(benchmark("answer_accuracy@1"), page_texts=None))


def test_a_set_without_any_answers_says_so() -> None:
    judged = benchmark("answer_accuracy@1")
    silent = replace(judged, queries=tuple(replace(query, answers=()) for query in judged.queries))
    with pytest.raises(
        InputError, match=r"asked test has no answers, which answer_accuracy@1 looks for in pages"
    ):
        evaluate_run(run(("q1", "ad")), silent)
    assert evaluate_run(run(("q1", "ad")), silent, metrics=["success@1"]).means == {"success@1": 1}


def test_runs_are_as_deep_as_the_metrics_look() -> None:
    assert run_depth(benchmark("answer_accuracy@1")) == DEPTH
    assert run_depth(benchmark("answer_accuracy@100", "recall@5")) == 100
