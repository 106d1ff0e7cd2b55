import numpy as np
import pytest

from mmret.errors import InputError
from mmret.retrieval.refine import break_ties, filtered, holds_pools
from mmret.retrieval.run import Run

INF = float("inf")


def run() -> Run:
    indices = [[1, 0, 2, 3], [3, 2, -1, -1]]
    scores = [[0.9, 0.5, 0.5, 0.5], [0.7, 0.7, -INF, -INF]]
    return Run(("q1", "q2"), ("a", "b", "c", "d"), np.array(indices), np.array(scores))


def names(found: Run, query: str) -> list[str]:
    return [name for name, _ in found.ranking(query)]


def test_the_target_loses_every_tie_and_nothing_else_moves() -> None:
    found = break_ties(run(), {"q1": {"a": 1}, "q2": {"d": 2}}, "target-last")
    assert names(found, "q1") == ["b", "c", "d", "a"]
    assert names(found, "q2") == ["c", "d"]
    assert np.array_equal(found.scores, run().scores)
    assert names(break_ties(run(), {"q1": {"b": 1}}, "target-last"), "q1") == ["b", "a", "c", "d"]


def test_the_default_order_is_left_alone() -> None:
    same = run()
    assert break_ties(same, {"q1": {"a": 1}}, "id-ascending") is same
    with pytest.raises(InputError, match="no tie_break 'random'"):
        break_ties(same, {}, "random")


def test_ranks_close_up_over_what_is_taken_out() -> None:
    found = filtered(run(), exclude={"q1": ("b", "unknown")}, pools={"q1": ("a", "b", "d")})
    assert found.ranking("q1") == [("a", 0.5), ("d", 0.5)]
    assert names(found, "q2") == ["d", "c"]
    assert found.depth == 4


def test_a_run_holds_pools_that_it_ranks_whole() -> None:
    assert holds_pools(run(), {"q1": ("a", "d"), "q2": ("c",)})
    assert not holds_pools(run(), {"q2": ("a", "c")})
    assert not holds_pools(run(), {"q3": ("a",)})
