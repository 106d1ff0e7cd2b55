from typing import Any

import numpy as np
import pytest

from mmret.errors import InputError
from mmret.retrieval import scored_search
from mmret.retrieval.index import Index
from mmret.retrieval.scored_search import search_scores
from mmret.retrieval.search import search

NAMES = tuple(f"q{number}" for number in range(7))


def draw(seed: int = 0) -> tuple[Index, Any]:
    """A gallery in scrambled order of ids with duplicates, and queries."""
    rng = np.random.default_rng(seed)
    documents = rng.standard_normal((300, 8)).astype(np.float32)
    documents[1::5] = documents[::5]
    return Index([f"d{row:03d}" for row in rng.permutation(300)], documents), rng.standard_normal((7, 8))


def inner_products(index: Index, queries: Any) -> Any:
    unit = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32).astype(np.float64)
    return lambda some, rows: unit[some] @ index.vectors[rows].astype(np.float64).T


@pytest.mark.parametrize("limits", [{}, {"exclude": {"q0": ["d003", "nobody"], "q2": ["d001"]}}])
def test_inner_products_rank_as_a_search_does(limits: Any) -> None:
    index, queries = draw()
    found = search_scores(index, NAMES, inner_products(index, queries), 20, **limits)
    expected = search(index, NAMES, queries, 20, **limits)
    assert np.array_equal(found.indices, expected.indices)
    assert np.allclose(found.scores, expected.scores, atol=1e-6)


def test_pools_are_ranked_alone_and_padded() -> None:
    index, queries = draw(1)
    pools = {name: ["d009", "d001", "d200", "d001"] for name in NAMES}
    exclude = {"q1": ["d001"]}
    found = search_scores(index, NAMES, inner_products(index, queries), 5, pools=pools, exclude=exclude)
    expected = search(index, NAMES, queries, 5, pools=pools, exclude=exclude)
    assert np.array_equal(found.indices, expected.indices)
    assert (found.indices[1] >= 0).sum() == 2


def test_blocks_change_nothing_and_ties_go_by_id(monkeypatch: pytest.MonkeyPatch) -> None:
    index, _ = draw(2)
    steps = np.floor(np.random.default_rng(0).standard_normal((7, 300)))
    whole = search_scores(index, NAMES, lambda some, rows: steps[some][:, rows], 50)
    monkeypatch.setattr(scored_search, "_SCORES_AT_A_TIME", 700)
    monkeypatch.setattr(scored_search, "_DOCUMENTS_AT_A_TIME", 7)
    blocks = search_scores(index, NAMES, lambda some, rows: steps[some][:, rows], 50)
    assert np.array_equal(whole.indices, blocks.indices)
    for row in range(7):
        order = sorted(range(300), key=lambda column: (-steps[row, column], index.ids[column]))
        assert whole.indices[row].tolist() == order[:50]


def test_bad_input_is_refused() -> None:
    index, queries = draw()
    with pytest.raises(InputError, match="from 1 up"):
        search_scores(index, NAMES, inner_products(index, queries), 0)
    with pytest.raises(InputError, match="'q1' has no pool"):
        search_scores(index, NAMES, inner_products(index, queries), 1, pools={"q0": ["d001"]})
    with pytest.raises(ValueError, match="NaN"):
        search_scores(index, NAMES, lambda some, rows: np.full((len(some), len(rows)), np.nan), 1)
