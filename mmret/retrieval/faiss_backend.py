"""FAISS behind an index: one installation, its best settings, and guards before it can abort the process.

Facts used here: FAISS 1.15.1 multiplies matrices with BLAS only from queries x width >= 128,000, which makes
problems just below that 3 to 6 times slower than they need be; `knn_gpu` ends the process where there is no
GPU or k is over 2,048.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

import numpy as np

from mmret.errors import InputError
from mmret.retrieval.checks import Floats, Integers

DISTRIBUTIONS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs")
GPU_DEEPEST = 2_048
# Fewer queries are faster without BLAS. Where that turns differs between processors: at 3 queries on an Intel
# Xeon with AMX, at 8 to 10 on an AMD EPYC of the Zen 4 kind.
BLAS_FROM_QUERIES = 6
QUERY_BLOCK = 1_024
GALLERY_BLOCK = 4_096

_settings_lock = threading.Lock()  # FAISS's settings are global to the process


def installed_distributions() -> list[str]:
    """The FAISS distributions that this environment holds; all of them install into one folder `faiss/`."""
    found = []
    for name in DISTRIBUTIONS:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        found.append(name)
    return found


def import_faiss() -> Any:
    """The module `faiss`, once it is certain that no second distribution has overwritten parts of it.

    Raises:
        InputError: several FAISS distributions are installed, or none.
    """
    found = installed_distributions()
    if len(found) > 1:
        raise InputError(
            f"{' and '.join(found)} are installed over one another: run `pip uninstall -y {' '.join(found)}` "
            f"and then `pip install {found[-1]}`, so that exactly one is left."
        )
    try:
        import faiss
    except ImportError as error:
        raise InputError(f"FAISS cannot be imported ({error}): run `pip install faiss-cpu`.") from error
    return faiss


faiss = import_faiss()


@contextmanager
def best_settings(width: int) -> Iterator[None]:
    """FAISS's global settings at their measured best for vectors of this width, put back afterwards."""
    wanted = {
        "distance_compute_blas_threshold": BLAS_FROM_QUERIES * width,
        "distance_compute_blas_query_bs": QUERY_BLOCK,
        "distance_compute_blas_database_bs": GALLERY_BLOCK,
    }
    with _settings_lock:
        before = {name: getattr(faiss.cvar, name) for name in wanted}
        try:
            for name, value in wanted.items():
                setattr(faiss.cvar, name, value)
            yield
        finally:
            for name, value in before.items():
                setattr(faiss.cvar, name, value)


class FlatFaiss:
    """Exact search on the CPU, over the gallery's own array: no copy inside an index."""

    exact = True
    deepest: int | None = None

    def __init__(self, vectors: Floats) -> None:
        self._vectors = vectors

    def top(self, queries: Floats, depth: int) -> tuple[Floats, Integers]:
        """Inner products and rows of the `depth` best vectors a query, both [Q, depth], best first."""
        with best_settings(queries.shape[1]):
            found: tuple[Floats, Integers] = faiss.knn(
                queries, self._vectors, depth, metric=faiss.METRIC_INNER_PRODUCT
            )
        return found


class FactoryFaiss:
    """Any FAISS index of inner products, by its factory string, on the CPU or one GPU.

    Only a "Flat" one is exact; the others rank by their own approximate scores.
    """

    def __init__(self, vectors: Floats, factory: str, parameters: str, device: str) -> None:
        self.exact = factory == "Flat"
        self.deepest = GPU_DEEPEST if device == "cuda" else None
        if device == "cuda" and faiss.get_num_gpus() == 0:
            raise InputError(
                "FAISS sees no GPU here: use device='cpu', or device='auto' to take one if there is."
            )
        try:
            self._index = _built(vectors, factory, parameters, device)
        except (RuntimeError, AttributeError) as error:
            raise InputError(
                f"FAISS cannot build {factory!r} over {len(vectors)} vectors on {device}: {_last_line(error)}"
            ) from error

    def top(self, queries: Floats, depth: int) -> tuple[Floats, Integers]:
        """Scores and rows of the `depth` best vectors a query, [Q, depth]; row -1 where nothing was found."""
        with best_settings(queries.shape[1]):
            scores, rows = self._index.search(queries, depth)
        return np.where(rows < 0, np.float32(-np.inf), scores), rows


def _built(vectors: Floats, factory: str, parameters: str, device: str) -> Any:
    index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        index.train(vectors)
    index.add(vectors)
    if device == "cuda":
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
        index_parameters = faiss.GpuParameterSpace()
    else:
        index_parameters = faiss.ParameterSpace()
    if parameters:
        index_parameters.set_index_parameters(index, parameters)
    return index


def _last_line(error: Exception) -> str:
    """FAISS's own words, without the C++ function and file they are prefixed with."""
    return str(error).strip().splitlines()[-1].split("Error: ")[-1]
