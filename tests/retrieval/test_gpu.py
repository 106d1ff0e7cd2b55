"""Every exact path ranks as the definition does, ties included: on the CPU anywhere, on a GPU where there is one."""

import sys

import numpy as np
import pytest
import torch

from mmret.errors import InputError
from mmret.retrieval import Index, search
from mmret.retrieval.torch_backend import TorchExact
from tests.retrieval import reference

PATHS = ["torch", "torch with prefilter", "faiss"]
DEVICES = ["cpu", "cuda"]


def indexed(ids, vectors, path, device):
    """An index on that path; skips where the machine lacks the library or the device."""
    backend = path.split()[0]
    if backend == "faiss":
        faiss = pytest.importorskip("faiss")
        present = device == "cpu" or faiss.get_num_gpus() > 0
    else:
        present = device == "cpu" or torch.cuda.is_available()
    if not present:
        pytest.skip(f"{backend} sees no GPU here")
    index = Index(ids, vectors, backend=backend, device=device)
    if backend == "torch":
        index.backend = TorchExact(index.vectors, device, prefilter=path != "torch")
    return index


@pytest.fixture(scope="module")
def crowded():
    """Ids, a gallery in which most documents have twins in other blocks, queries near one with 301, exclusions."""
    random = np.random.default_rng(0)
    gallery = random.standard_normal((9_000, 96), dtype=np.float32)
    gallery[3_000:6_000] = gallery[:3_000]
    gallery[6_000:6_300] = gallery[7]
    queries = random.standard_normal((150, 96), dtype=np.float32)
    queries[:30] = gallery[7] + 0.1 * queries[:30]
    ids = [f"d{number}" for number in random.permutation(9_000)]
    return ids, gallery, queries, {str(row): [ids[row], ids[6_000 + row]] for row in range(150)}


def expected(ids, gallery, queries, exclude, k):
    """Rows of the k best: all scores in float64, rounded once, equal ones in the order of ids."""
    scores = reference.unit(queries).astype(np.float64) @ reference.unit(gallery).astype(np.float64).T
    rounded = scores.astype(np.float32)
    for query, names in exclude.items():
        rounded[int(query), [ids.index(name) for name in names]] = -np.inf
    by_id = np.argsort(ids)
    return by_id[np.argsort(-rounded[:, by_id], axis=1, kind="stable")[:, :k]]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("path", PATHS)
def test_all_devices_agree_on_every_rank_ties_included(crowded, path, device):
    ids, gallery, queries, exclude = crowded
    run = search(indexed(ids, gallery, path, device), list(exclude), queries, 40, exclude=exclude)
    np.testing.assert_array_equal(run.indices, expected(ids, gallery, queries, exclude, 40))
    assert run.ties > 30 * 39


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("path", PATHS)
def test_rankings_deeper_than_faiss_allows_on_a_gpu(crowded, path, device):
    ids, gallery, queries, _ = crowded
    index = indexed(ids, gallery, path, device)
    asked, names = queries[40:44], ["40", "41", "42", "43"]
    if (path, device) == ("faiss", "cuda"):
        with pytest.raises(InputError, match="at most 2048 documents on a GPU"):
            search(index, names, asked, 2_049)
    k = 2_048 if (path, device) == ("faiss", "cuda") else 2_500
    run = search(index, names, asked, k)
    np.testing.assert_array_equal(run.indices, expected(ids, gallery, asked, {}, k))


@pytest.mark.parametrize("device", DEVICES)
def test_the_torch_path_needs_no_faiss(crowded, device, monkeypatch):
    for name in ("faiss", "mmret.retrieval.faiss_backend"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    monkeypatch.setattr("mmret.retrieval.pools._SHARED_FROM_PAIRS", 1)
    ids, gallery, queries, exclude = crowded
    index = indexed(ids, gallery, "torch", device)
    run = search(index, list(exclude), queries, 5, exclude=exclude, pools=dict.fromkeys(exclude, ids))
    np.testing.assert_array_equal(run.indices, expected(ids, gallery, queries, exclude, 5))
