from collections.abc import Sequence

import numpy as np
import pytest

from mmret.errors import InputError
from mmret.retrieval.rerank import rerank
from mmret.retrieval.run import Run

RUN = Run(
    ("q", "r"),
    ("a", "b", "c"),
    np.array([[2, 0, 1], [1, -1, -1]]),
    np.array([[3, 2, 1], [1, -np.inf, -np.inf]]),
)


def test_the_first_are_put_in_a_new_order_and_the_rest_cut_off() -> None:
    asked = []

    def scorer(query: str, documents: Sequence[str]) -> list[float]:
        asked.append((query, list(documents)))
        return [float(document == "a") for document in documents]

    found = rerank(RUN, scorer, 2)
    assert asked == [("q", ["c", "a"]), ("r", ["b"])]
    assert found.ranking("q") == [("a", 1), ("c", 0)]
    assert found.ranking("r") == [("b", 0)]
    assert rerank(RUN, lambda query, documents: np.zeros(len(documents)), 9).ranking("q") == [
        ("a", 0),
        ("b", 0),
        ("c", 0),
    ]


@pytest.mark.parametrize("scores", [[1.0], [float("nan"), 1.0]])
def test_scores_that_are_none_are_told(scores: list[float]) -> None:
    with pytest.raises(InputError, match="for the 2 documents of 'q', or no number"):
        rerank(RUN, lambda query, documents: scores, 2)
