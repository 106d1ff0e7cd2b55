import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmret.errors import InputError
from mmret.retrieval.scored_rows import rank_scores

DOCUMENTS = ("d", "b", "a", "c")


@given(
    st.lists(st.sampled_from([-np.inf, 0.0, 1.0, 2.0]), min_size=4, max_size=4),
    st.integers(1, 6),
    st.sets(st.sampled_from(DOCUMENTS)),
)
def test_it_is_a_sort_by_score_and_id(scores: list[float], k: int, out: set[str]) -> None:
    run = rank_scores(["q"], DOCUMENTS, [np.array(scores)], k, exclude={"q": sorted(out)})
    wanted = [
        (-score, name)
        for score, name in zip(scores, DOCUMENTS, strict=True)
        if score > -np.inf and name not in out
    ]
    assert run.ranking("q") == [(name, -score) for score, name in sorted(wanted)[:k]]
    assert run.depth == k


def test_pools_bound_what_is_ranked() -> None:
    rows = [np.arange(4.0), np.arange(4.0)]
    run = rank_scores(["p", "q"], DOCUMENTS, rows, 3, pools={"p": ["d", "a"], "q": ["b"]})
    assert [name for name, _ in run.ranking("p")] == ["a", "d"]
    assert [name for name, _ in run.ranking("q")] == ["b"]


def test_bad_scores_and_pools_are_told() -> None:
    with pytest.raises(InputError, match=r"The scores of query 'q' are \(3,\), or NaN; 4 numbers"):
        rank_scores(["q"], DOCUMENTS, [np.zeros(3)], 2)
    with pytest.raises(InputError, match="or NaN"):
        rank_scores(["q"], DOCUMENTS, [np.full(4, np.nan)], 2)
    with pytest.raises(InputError, match="Query 'q' has no pool"):
        rank_scores(["q"], DOCUMENTS, [np.zeros(4)], 2, pools={})
    with pytest.raises(InputError, match="names 'z', which is not in the gallery"):
        rank_scores(["q"], DOCUMENTS, [np.zeros(4)], 2, pools={"q": ["z"]})
