import re
import sys

import numpy as np
import pytest
import torch

from mmret.errors import InputError
from mmret.retrieval import Index, faiss_backend, search

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a GPU where there is none")


@pytest.mark.parametrize(
    ("ids", "vectors", "settings", "fault"),
    [
        ([], np.empty((0, 2)), {}, "gallery is empty"),
        (["a", "a"], np.eye(2), {}, "the gallery appear more than once, first 'a'"),
        (["a", 5], np.eye(2), {}, "An id of the gallery is 5"),
        ("ab", np.eye(2), {}, "the single string 'ab'"),
        (["a"], np.eye(2), {}, "1 ids but 2 vectors"),
        (["a", "b"], [[1, 0], [0, np.nan]], {}, "not finite, first 'b'"),
        (["a", "b"], [[1, 0], [0, 0]], {}, "zero, first 'b'"),
        (["a", "b"], np.eye(2), {"device": "tpu"}, "device is one of cpu, cuda, auto, not 'tpu'"),
        (["a", "b"], np.eye(2), {"backend": "annoy"}, "backend is one of faiss, torch, not 'annoy'"),
        (["a", "b"], np.eye(2), {"backend": "torch", "factory": "HNSW32"}, "torch backend is exact"),
        (
            ["a", "b"],
            np.eye(2),
            {"factory": "Nonsense"},
            "FAISS cannot build 'Nonsense' over 2 vectors on cpu",
        ),
        (["a", "b"], np.eye(2), {"factory": "IVF64,Flat"}, "cannot build 'IVF64,Flat'"),
        (["a", "b"], np.eye(2), {"factory": "LSH"}, "FAISS cannot build 'LSH'"),
        (["a", "b"], np.eye(2), {"parameters": "nprobe=3"}, "cannot build 'Flat'"),
    ],
)
def test_bad_galleries_and_settings_are_refused_in_a_sentence(ids, vectors, settings, fault):
    with pytest.raises(InputError, match=fault) as caught:
        Index(ids, vectors, **settings)
    assert "\n" not in str(caught.value)


@NO_GPU
@pytest.mark.parametrize("backend", ["faiss", "torch"])
def test_a_gpu_that_is_not_there_is_refused_before_it_can_abort_the_process(backend):
    with pytest.raises(InputError, match="sees no GPU here"):
        Index(["a", "b"], np.eye(2), device="cuda", backend=backend)
    assert Index(["a", "b"], np.eye(2), device="auto", backend=backend).device == "cpu"


class OnPretendedGpu:
    """An index as FAISS's GPU code treats it: deeper than 2,048, the process ends."""

    def __init__(self, resources, device, index):
        assert device == 0
        self.index, self.depths = index, []

    def search(self, queries, depth):
        assert depth <= 2_048, "the process would have ended here"
        self.depths.append(depth)
        return self.index.search(queries, depth)


@pytest.fixture
def pretended_gpu(monkeypatch):
    """One GPU as far as FAISS's Python knows."""
    monkeypatch.setattr(faiss_backend.faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss_backend.faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss_backend.faiss, "GpuParameterSpace", object, raising=False)
    monkeypatch.setattr(faiss_backend.faiss, "index_cpu_to_gpu", OnPretendedGpu, raising=False)


@pytest.mark.usefixtures("pretended_gpu")
def test_k_beyond_what_faiss_ranks_on_a_gpu_is_refused_before_faiss_is_called():
    ids, vectors = [f"d{i}" for i in range(3_000)], np.random.default_rng(0).random((3_000, 8))
    index = Index(ids, vectors, device="auto")
    assert (index.device, index.backend.exact) == ("cuda", True)
    with pytest.raises(InputError, match="at most 2048 documents on a GPU, not 2049: use backend='torch'"):
        search(index, ["q"], [[1] * 8], 2_049)
    assert index.backend._index.depths == []
    on_cpu = Index(ids, vectors)
    for k in (2_048, 2_040, 10):  # with exclusions, more is fetched than k: as much as FAISS allows
        asked = {"query_ids": ["q"], "queries": [[1] * 8], "k": k, "exclude": {"q": ids[:100]}}
        np.testing.assert_array_equal(search(index, **asked).indices, search(on_cpu, **asked).indices)
    assert index.backend._index.depths == [2_048, 2_048, 36]


@pytest.mark.usefixtures("pretended_gpu")
def test_a_gallery_smaller_than_k_is_ranked_whole_on_a_gpu():
    index = Index(["a", "b"], np.eye(2), device="cuda")
    assert search(index, ["q"], [[2, 1]], 5_000).ranking("q")[0][0] == "a"


def test_vectors_are_normalised_once_unless_told_otherwise():
    given = np.array([[3.0, 4.0], [0.0, 1e30], [1e-30, 0.0]], dtype=np.float32)
    index = Index(["a", "b", "c"], given)
    np.testing.assert_allclose(index.vectors, [[0.6, 0.8], [0, 1], [1, 0]], rtol=1e-7)
    assert Index(["a", "b", "c"], given, normalise=False).vectors is given
    np.testing.assert_array_equal(given[0], [3, 4])


def test_ranks_follow_the_ascending_order_of_ids():
    index = Index(["b", "a10", "a9"], np.eye(3))
    assert index.rows_by_id.tolist() == [1, 2, 0]
    assert index.id_ranks.tolist() == [2, 0, 1]
    assert repr(index) == "Index(3 x 3, faiss Flat on cpu)"


def test_faiss_settings_are_set_for_the_call_and_put_back():
    names = [f"distance_compute_blas_{name}" for name in ("threshold", "query_bs", "database_bs")]
    before = [getattr(faiss_backend.faiss.cvar, name) for name in names]
    inside = []

    def interrupted():
        with faiss_backend.best_settings(512):
            inside.extend(getattr(faiss_backend.faiss.cvar, name) for name in names)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert inside == [faiss_backend.BLAS_FROM_QUERIES * 512, 1_024, 4_096]
    assert before != inside
    assert [getattr(faiss_backend.faiss.cvar, name) for name in names] == before


@pytest.mark.parametrize("factory", ["Flat", "SQ8"])
def test_every_search_runs_under_these_settings(monkeypatch, factory):
    faiss, thresholds = faiss_backend.faiss, []
    index = Index(["a", "b"], np.eye(2), factory=factory)
    owner, name = (faiss, "knn") if factory == "Flat" else (index.backend._index, "search")
    real = getattr(owner, name)

    def recorded(*arguments, **options):
        thresholds.append(faiss.cvar.distance_compute_blas_threshold)
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, recorded)
    search(index, ["q"], [[1, 0.5]], 1)
    assert thresholds == [2 * faiss_backend.BLAS_FROM_QUERIES]


def test_without_faiss_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match="run `pip install faiss-cpu`"):
        faiss_backend.import_faiss()


@pytest.mark.parametrize("installed", [["faiss-cpu", "faiss-gpu"], list(faiss_backend.DISTRIBUTIONS)])
def test_two_faiss_distributions_are_refused_with_the_mend(monkeypatch, installed):
    def version(name):
        if name not in installed:
            raise faiss_backend.metadata.PackageNotFoundError(name)
        return "1.15.1"

    monkeypatch.setattr(faiss_backend.metadata, "version", version)
    mend = re.escape(f"`pip uninstall -y {' '.join(installed)}` and then `pip install {installed[-1]}`")
    with pytest.raises(InputError, match=mend):
        faiss_backend.import_faiss()


def test_exactly_one_faiss_distribution_is_installed_here():
    assert len(faiss_backend.installed_distributions()) == 1


def test_a_read_only_memory_map_is_indexed_by_both_backends(tmp_path):
    np.save(tmp_path / "vectors.npy", np.eye(4, dtype=np.float32))
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    for backend in ("faiss", "torch"):
        index = Index(list("dcba"), mapped, backend=backend, normalise=False)
        assert search(index, ["q"], [[0, 0, 2, 1]], 2).ranking("q")[0][0] == "b"
