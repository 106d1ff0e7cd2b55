import numpy as np
import pytest
import torch

from mmret.retrieval import Index, search
from mmret.retrieval.torch_backend import TorchExact, full_precision


def unit(count, width, seed=0):
    vectors = np.random.default_rng(seed).standard_normal((count, width), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def crowd(count, width):
    """Vectors that bfloat16 cannot tell apart: steps of a thousandth of one vector."""
    return unit(1, width) + np.float32(1e-3) * unit(count, width, seed=1)


def test_queries_that_the_prefilter_cannot_decide_are_searched_in_float32():
    index = Index([f"{row:04d}" for row in range(2_000)], crowd(2_000, 32), backend="torch")
    queries = np.concatenate([unit(1, 32) + unit(20, 32, seed=2), unit(20, 32, seed=3)])
    names = [str(row) for row in range(40)]
    expected = search(index, names, queries, 5)
    index.backend = TorchExact(index.vectors, "cpu", prefilter=True)
    run = search(index, names, queries, 5)
    np.testing.assert_array_equal(run.indices, expected.indices)


@pytest.mark.parametrize(("gallery", "share"), [(unit(5_000, 64), 1.0), (crowd(5_000, 64), 0.0)])
def test_the_proof_holds_where_scores_are_spread_and_fails_where_they_crowd(gallery, share):
    backend = TorchExact(gallery, "cpu", prefilter=True)
    queries = torch.from_numpy(unit(50, 64, seed=4))
    _, _, proven = backend._prefiltered(queries, backend._coarse, 10, 74)
    assert proven.float().mean() == share


@pytest.mark.parametrize("prefilter", [False, True])
def test_chunks_of_gallery_and_queries_are_merged(monkeypatch, prefilter):
    monkeypatch.setattr("mmret.retrieval.torch_backend._QUERY_CHUNK", 7)
    monkeypatch.setattr("mmret.retrieval.torch_backend._SCORES_AT_A_TIME", {"cpu": 7 * 13})
    gallery, queries = unit(200, 48), unit(30, 48, seed=1)
    scores, rows = TorchExact(gallery, "cpu", prefilter=prefilter).top(queries, 20)
    exact = queries.astype(np.float64) @ gallery.T.astype(np.float64)
    np.testing.assert_array_equal(rows, np.argsort(-exact, axis=1)[:, :20])
    np.testing.assert_allclose(scores, -np.sort(-exact, axis=1)[:, :20], atol=1e-6)


def test_precision_is_full_inside_and_put_back():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with full_precision():
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
