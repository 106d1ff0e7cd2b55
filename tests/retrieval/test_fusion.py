from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from mmret.errors import InputError
from mmret.retrieval.fusion import fuse_ranks, fuse_scores
from mmret.retrieval.run import Run


def run(rankings: Mapping[str, Sequence[tuple[str, float]]]) -> Run:
    """A run of (document, score) rankings, best first."""
    documents = tuple(dict.fromkeys(name for ranking in rankings.values() for name, _ in ranking))
    depth = max(map(len, rankings.values()))
    indices, scores = np.full((len(rankings), depth), -1), np.full((len(rankings), depth), -np.inf)
    for row, ranking in enumerate(rankings.values()):
        indices[row, : len(ranking)] = [documents.index(name) for name, _ in ranking]
        scores[row, : len(ranking)] = [score for _, score in ranking]
    return Run(tuple(rankings), documents, indices, scores)


A = run({"q": [("x", 9.0), ("y", 5.0), ("z", 1.0)], "r": [("x", 3.0)]})
B = run({"r": [("v", 2.0), ("x", 1.0)], "q": [("y", 0.9), ("w", 0.5), ("x", 0.1)]})


def test_reciprocal_ranks_by_hand() -> None:
    fused = dict(fuse_ranks([A, B], 10).ranking("q"))
    assert fused == pytest.approx({"y": 1 / 62 + 1 / 61, "x": 1 / 61 + 1 / 63, "w": 1 / 62, "z": 1 / 63})
    assert list(fused) == ["y", "x", "w", "z"]
    assert [name for name, _ in fuse_ranks([A, B], 2).ranking("q")] == ["y", "x"]
    heavy = fuse_ranks([A, B], 1, weights=[3, 1], constant=0)
    assert heavy.ranking("q") == [("x", pytest.approx(3 / 1 + 1 / 3))]


def test_scaled_scores_by_hand() -> None:
    fused = dict(fuse_scores([A, B], 10, weights=[1, 2]).ranking("q"))
    assert fused == pytest.approx({"y": 0.5 + 2, "x": 1 + 0, "w": 2 * 0.5, "z": 0})
    assert dict(fuse_scores([A, B], 3).ranking("r")) == {"v": 1, "x": 1}


def test_ties_are_in_order_of_ids() -> None:
    first, second = run({"q": [("b", 1.0), ("a", 0.0)]}), run({"q": [("a", 1.0), ("b", 0.0)]})
    for fuse in (fuse_ranks, fuse_scores):
        for runs in ([first, second], [second, first]):
            assert [name for name, _ in fuse(runs, 2).ranking("q")] == ["a", "b"]
    assert fuse_ranks([first, second], 2).ties == 1


def test_a_query_without_documents_stays_empty() -> None:
    empty = run({"q": [], "r": [("x", 1.0)]})
    assert fuse_scores([empty, empty], 3).ranking("q") == []


def test_bad_hybrids_are_told() -> None:
    with pytest.raises(InputError, match="of two runs or more, not of 1"):
        fuse_ranks([A], 3)
    with pytest.raises(InputError, match="answer other queries"):
        fuse_ranks([A, run({"q": [("x", 1.0)]})], 3)
    for weights in ([1], [-1, 2], [0, 0], [float("nan"), 1]):
        with pytest.raises(InputError, match="The weights of a hybrid are"):
            fuse_scores([A, B], 3, weights=weights)
    for fuse in (fuse_ranks, fuse_scores):
        with pytest.raises(InputError, match="k is a whole number from 1 up, not -1"):
            fuse([A, B], -1)
    with pytest.raises(InputError, match="constant of reciprocal ranks is -1"):
        fuse_ranks([A, B], 3, constant=-1)
