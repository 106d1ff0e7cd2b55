from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmret.composition import PDV, ComposedFeatures, Grid, sweep
from mmret.composition.pruning import region_tree, survivors
from mmret.composition.sweep import top_k
from mmret.errors import InputError
from mmret.retrieval.index import Index
from mmret.retrieval.search import search

GRID = Grid((-0.5, 0.0, 1.0, 2.0, 3.0), (-0.5, 0.5, 1.0, 2.0), (0.0, 0.2, 0.5, 0.8, 1.0))
NAMES = ("q0", "q1", "q2", "q3", "q4")


def draw(seed: int, gallery: int = 600, width: int = 16) -> tuple[Index, ComposedFeatures]:
    """A gallery in scrambled order of ids, every tenth document a copy of its neighbour."""
    rng = np.random.default_rng(seed)
    documents = rng.standard_normal((gallery, width)).astype(np.float32)
    documents[1::10] = documents[::10]
    index = Index([f"d{row:04d}" for row in rng.permutation(gallery)], documents)
    image, reference = rng.standard_normal((2, len(NAMES), width))
    composed = reference + 0.5 * rng.standard_normal((len(NAMES), width))
    three = (torch.from_numpy(part.astype(np.float32)) for part in (image, reference, composed))
    return index, ComposedFeatures(*three)


def differences(index: Index, vectors: Any, found: Any, expected: Any) -> int:
    """Ranks that name different documents whose scores differ by more than 1e-6."""
    wrong = 0
    for query, rank in np.argwhere(found != expected):
        pair = index.vectors[[found[query, rank], expected[query, rank]]].astype(np.float64)
        wrong += abs(np.subtract(*(pair @ vectors[query].double().numpy()))) > 1e-6
    return wrong


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("exclude", [None, {"q0": ["d0003", "unknown"], "q3": ["d0001", "d0002"]}])
def test_every_setting_ranks_as_a_search_of_its_own(seed: int, exclude: Any) -> None:
    index, features = draw(seed)
    settings = [*GRID, PDV(1.4, "auto", 0.75)]
    swept = sweep(index, NAMES, features, settings, 10, exclude=exclude)
    assert len(swept.settings) == 60  # of 101: the rest rank alike
    for setting, indices, scores in swept.by_setting():
        run = search(index, NAMES, setting(features).numpy(), 10, exclude=exclude)
        assert differences(index, setting(features), indices, run.indices) == 0
        assert np.allclose(scores, run.scores, atol=2e-6)


def test_pools_are_the_only_candidates() -> None:
    index, features = draw(2)
    pools = {name: ["d0010", "d0002", "d0300"] for name in NAMES}
    swept = sweep(index, NAMES, features, GRID, 4, pools=pools, exclude={"q1": ["d0002"]})
    for setting, indices, scores in swept.by_setting():
        run = search(index, NAMES, setting(features).numpy(), 4, pools=pools, exclude={"q1": ["d0002"]})
        assert np.array_equal(indices, run.indices)
        assert np.array_equal(scores == -np.inf, indices == -1)
    assert (indices[1] >= 0).sum() == 2


def test_equal_documents_stand_in_order_of_id() -> None:
    vectors = np.array([[1, 0], [0, 1], [1, 0], [1, 0]], np.float32)
    features = ComposedFeatures(*torch.tensor([[[0.6, 0.8]], [[0.8, 0.6]], [[1.0, 0.1]]]))
    index = Index(["c", "b", "d", "a"], vectors)
    for _, indices, _ in sweep(index, ["q"], features, [PDV(), PDV(2, 2, 0.5)], 4).by_setting():
        assert indices.tolist() == [[3, 0, 2, 1]]


def test_documents_within_a_rounding_error_of_the_top_k_are_not_lost() -> None:
    rng = np.random.default_rng(0)
    documents = rng.standard_normal(64) + 1e-6 * rng.standard_normal((2_000, 64))
    index = Index([f"d{row:04d}" for row in range(2_000)], documents)
    features = ComposedFeatures(*torch.from_numpy(rng.standard_normal((3, 20, 64)).astype(np.float32)))
    ((_, indices, _),) = sweep(index, [f"q{row}" for row in range(20)], features, [PDV()], 10).by_setting()
    composed = torch.nn.functional.normalize(features.composed_text.double()).numpy()
    scores = (composed @ index.vectors.T.astype(np.float64)).astype(np.float32)
    assert indices.tolist() == np.argsort(-scores, axis=1, kind="stable")[:, :10].tolist()


def test_a_vanishing_vector_ties_all_documents() -> None:
    image = torch.tensor([[1.0, 0.0]])
    index = Index(["c", "b", "a"], np.array([[1, 0], [0, 1], [-1, 0]], np.float32))
    features = ComposedFeatures(image, image, -image)
    (rankings,) = sweep(index, ["q"], features, [PDV(1, 0, 0.5), PDV(1, 0, 0)], 3)
    assert rankings.indices.tolist() == [[2, 1, 0], [0, 1, 2]]
    assert rankings.scores.tolist() == [[0, 0, 0], [1, 0, -1]]


def test_blocks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    index, features = draw(3)
    whole = [ranking.indices for ranking in sweep(index, NAMES, features, GRID, 5)]
    module = import_module("mmret.composition.sweep")  # the package shows the function by this name
    monkeypatch.setattr(module, "SIMILARITY_BYTES", 12 * len(index) * 2)
    monkeypatch.setattr(module, "GALLERY_BLOCK", 7)
    blocks = [ranking.indices for ranking in sweep(index, NAMES, features, GRID, 5)]
    assert all(np.array_equal(one, other) for one, other in zip(whole, blocks, strict=True))


@given(st.integers(0, 10_000), st.integers(1, 40), st.sampled_from([0.2, 1e-3, 1e-7]))
def test_no_document_of_a_top_k_is_pruned(seed: int, k: int, scale: float) -> None:
    """Against every setting's ranking over all documents, with scores apart, close, or a rounding error apart."""
    rng = np.random.default_rng(seed)
    similarities = (0.5 + rng.standard_normal((3, 300)) * scale).astype(np.float32)
    beta, gamma = rng.uniform(-1, 2, 60), rng.uniform(-2, 3, 60)
    parts = list(survivors(region_tree(beta, gamma), similarities, k, 1e-6))
    assert sorted(np.concatenate([settings for settings, _ in parts])) == list(range(60))
    exact = similarities.astype(np.float64)
    for settings, documents in parts:
        for row in settings:
            scores = np.array([1 - beta[row], beta[row] - gamma[row], gamma[row]]) @ exact
            assert set(np.argsort(-scores)[:k]) <= set(documents.tolist())


def test_pruning_leaves_few_documents() -> None:
    rng = np.random.default_rng(0)
    similarities = rng.standard_normal((3, 20_000)).astype(np.float32)
    beta, gamma = map(np.ravel, np.meshgrid(np.linspace(0, 1, 10), np.linspace(-0.5, 3, 20)))
    parts = list(survivors(region_tree(beta, gamma), similarities, 20, 1e-6))
    ranked = sum(len(settings) * len(documents) for settings, documents in parts)
    assert ranked / len(beta) < 200  # per setting, of 20,000


@given(
    st.lists(st.sampled_from([-1.5, -1.0, -0.0, 0.0, 1e-30, 2.0]), min_size=1, max_size=9), st.integers(1, 9)
)
def test_top_k_sorts_by_score_and_column(values: list[float], k: int) -> None:
    columns, scores = top_k(np.array([values], np.float32), k)
    expected = sorted(range(len(values)), key=lambda column: (-values[column], column))[:k]
    assert columns.tolist() == [expected]
    assert scores.tolist() == [[np.float32(values[column]) for column in expected]]


def test_bad_inputs_are_refused() -> None:
    index, features = draw(4)
    broken = ComposedFeatures(features.reference_image, features.reference_text * 0, features.composed_text)
    with pytest.raises(InputError, match=r"5 queries have a zero .* \(q0, q1"):
        sweep(index, NAMES, broken, GRID)
    with pytest.raises(InputError, match="one per feature: 1 and 5"):
        sweep(index, ["q"], features, GRID)
    with pytest.raises(InputError, match="0 and k = 3"):
        sweep(index, NAMES, features, [], 3)
    with pytest.raises(InputError, match="'q0' is empty or has unknown documents"):
        sweep(index, NAMES, features, GRID, pools={"q0": ["nobody"]})
    narrow = SimpleNamespace(ids=index.ids, vectors=index.vectors[:, :8])
    with pytest.raises(InputError, match="features 16 wide"):
        sweep(narrow, NAMES, features, GRID)  # type: ignore[arg-type]
