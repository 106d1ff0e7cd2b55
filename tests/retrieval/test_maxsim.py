from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmret.errors import InputError
from mmret.retrieval import maxsim
from mmret.retrieval.maxsim import MultiVectorIndex, search_multi_vectors
from mmret.retrieval.multi_vectors import MultiVectors
from mmret.retrieval.store import EmbeddingStore

NAMES = [f"d{row:03d}" for row in range(120)]
QUERIES = [f"q{row}" for row in range(6)]


def draw(count: int, seed: int, most: int = 9) -> MultiVectors:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, most, count)
    return MultiVectors.of_lengths(rng.standard_normal((lengths.sum(), 8)).astype(np.float32), lengths)


def unit(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def by_hand(queries: MultiVectors, documents: MultiVectors) -> Any:
    """The definition, one pair at a time."""
    return np.array([
        [
            (unit(queries.take([q]).vectors) @ unit(documents.take([d]).vectors).T).max(axis=1).sum()
            for d in range(len(documents))
        ]
        for q in range(len(queries))
    ])  # fmt: skip


def test_scores_are_sums_of_best_matches() -> None:
    documents, queries = draw(120, 0), draw(6, 1)
    run = search_multi_vectors(MultiVectorIndex(NAMES, documents), QUERIES, queries, 10)
    scores = by_hand(queries, documents)
    order = np.argsort(-scores, axis=1)[:, :10]
    assert np.array_equal(run.indices, order)
    assert np.allclose(run.scores, np.take_along_axis(scores, order, axis=1), atol=1e-5)


def test_one_vector_each_is_a_search_by_cosine() -> None:
    from mmret.retrieval.index import Index
    from mmret.retrieval.search import search

    documents, queries = draw(120, 2, most=2), draw(6, 3, most=2)
    found = search_multi_vectors(MultiVectorIndex(NAMES, documents), QUERIES, queries, 10)
    expected = search(Index(NAMES, documents.vectors), QUERIES, queries.vectors, 10)
    assert np.array_equal(found.indices, expected.indices)


def test_blocks_pools_and_exclusions(monkeypatch: pytest.MonkeyPatch) -> None:
    documents, queries = draw(120, 4), draw(6, 5)
    index = MultiVectorIndex(NAMES, documents)
    limits: Any = {"exclude": {"q0": ["d003"]}, "pools": dict.fromkeys(QUERIES, NAMES[::7])}
    whole, pooled = (search_multi_vectors(index, QUERIES, queries, 30, **some) for some in ({}, limits))
    monkeypatch.setattr(maxsim, "_VECTORS_AT_A_TIME", 11)
    monkeypatch.setattr(maxsim, "_PRODUCTS_AT_A_TIME", 40)
    for run, some in ((whole, {}), (pooled, limits)):
        again = search_multi_vectors(index, QUERIES, queries, 30, **some)
        assert np.array_equal(again.indices, run.indices) and np.array_equal(again.scores, run.scores)
    assert "d003" not in [name for name, _ in pooled.ranking("q0")]
    assert {name for name, _ in pooled.ranking("q1")} == set(NAMES[::7])


def test_equal_documents_tie_by_id_in_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    one = draw(1, 6)
    documents = one.take([0] * 120)
    monkeypatch.setattr(maxsim, "_VECTORS_AT_A_TIME", 50)
    run = search_multi_vectors(MultiVectorIndex(NAMES[::-1], documents), QUERIES, draw(6, 7), 120)
    assert [name for name, _ in run.ranking("q2")] == NAMES


def test_torch_gives_the_same_run() -> None:
    documents, queries = draw(120, 8), draw(6, 9)
    expected = search_multi_vectors(MultiVectorIndex(NAMES, documents), QUERIES, queries, 20)
    found = search_multi_vectors(MultiVectorIndex(NAMES, documents, device="cpu:0"), QUERIES, queries, 20)
    assert np.array_equal(found.indices, expected.indices) and np.allclose(
        found.scores, expected.scores, atol=1e-6
    )


def test_a_store_keeps_several_vectors_and_is_searched_where_it_lies(tmp_path: Path) -> None:
    documents, queries = draw(120, 10), draw(6, 11)
    store = EmbeddingStore.open(tmp_path / "s", {"a": "b"}, dtype="float16")
    for start in range(0, 120, 50):
        rows = range(start, min(start + 50, 120))
        store.append(NAMES[start : start + 50], documents.take(list(rows)), ["stamp"] * len(rows))
    store.remove(["d060"])
    store.append(["d060"], documents.take([60]))
    again = EmbeddingStore.open(tmp_path / "s", {"a": "b"}, dtype="float16")
    assert again.missing([*NAMES, "new"], ["stamp"] * 121) == ["d060", "new"]
    held = again.multi_vectors(NAMES)
    assert np.array_equal(held.lengths, documents.lengths)
    assert np.array_equal(held.take([60, 3]).vectors, documents.take([60, 3]).vectors.astype(np.float16))
    found = search_multi_vectors(MultiVectorIndex(NAMES, held), QUERIES, queries, 5)
    rounded = MultiVectors(documents.vectors.astype(np.float16).astype(np.float32), documents.offsets)
    expected = search_multi_vectors(MultiVectorIndex(NAMES, rounded), QUERIES, queries, 5)
    assert np.array_equal(found.indices, expected.indices) and np.array_equal(found.scores, expected.scores)
    with pytest.raises(InputError, match="several vectors an id"):
        again.vectors(NAMES)


def test_a_store_of_one_vector_each_is_read_either_way(tmp_path: Path) -> None:
    store = EmbeddingStore.open(tmp_path / "s", {"a": "b"})
    store.append(["x", "y"], np.eye(2))
    assert np.array_equal(store.multi_vectors(["y"]).take([0]).vectors, [[0, 1]])
    assert "counts" not in next((tmp_path / "s").glob("0*.json")).read_text()  # as stores always were


def test_bad_input_is_refused(tmp_path: Path) -> None:
    documents = draw(3, 12)
    with pytest.raises(InputError, match="3 documents in the gallery"):
        MultiVectorIndex(["a"], documents)
    with pytest.raises(InputError, match="have no vectors, first 'b'"):
        MultiVectorIndex(["a", "b"], MultiVectors.of_lengths(np.ones((1, 2)), [1, 0]))
    index = MultiVectorIndex(["a", "b", "c"], documents)
    with pytest.raises(InputError, match="2 wide, for a gallery that is 8 wide"):
        search_multi_vectors(index, ["q"], MultiVectors.of_lengths(np.ones((1, 2)), [1]), 1)
    with pytest.raises(InputError, match="'q' has no vectors"):
        search_multi_vectors(index, ["q"], MultiVectors.of_lengths(np.ones((0, 8)), [0]), 1)
    with pytest.raises(InputError, match="cannot be divided"):
        MultiVectors(np.ones((3, 2), np.float32), np.array([0, 2]))
    store = EmbeddingStore.open(tmp_path / "s", {})
    with pytest.raises(InputError, match="give each id a group"):
        store.append(["a"], documents)
    broken = documents.take([0, 1, 2])
    broken.vectors[0] = np.nan
    with pytest.raises(InputError, match="not finite, first 'a'"):
        search_multi_vectors(MultiVectorIndex(["a", "b", "c"], broken), ["q"], draw(1, 0), 1)
