"""A gallery that can be searched: ids, vectors, and what ranks them."""

from collections.abc import Iterable
from functools import cached_property
from importlib import import_module
from typing import Protocol

from numpy.typing import ArrayLike

from mmret.errors import InputError
from mmret.retrieval.checks import Floats, Integers, checked_ids, checked_vectors, normalised, row_norms
from mmret.retrieval.gallery import Gallery

DEVICES = ("cpu", "cuda", "auto")
BACKENDS = ("faiss", "torch")


class Backend(Protocol):
    """What ranks vectors: `exact` if no better vector than those returned exists, `deepest` ranks at most."""

    exact: bool
    deepest: int | None

    def top(self, queries: Floats, depth: int) -> tuple[Floats, Integers]:
        """Scores float32 and rows int64 of the `depth` best vectors of each query, [Q, depth], best first."""


class Index(Gallery):
    """Inner products over a gallery of vectors [n, D], L2-normalised by default (cosine similarity).

    The ranking is exact with the default factory and with torch; other factory strings ("IVF1024,Flat",
    "HNSW32", ...) are FAISS's approximations and rank by their own scores.
    """

    def __init__(
        self,
        ids: Iterable[str],
        vectors: ArrayLike,
        *,
        factory: str = "Flat",
        parameters: str = "",
        device: str = "cpu",
        backend: str = "faiss",
        normalise: bool = True,
    ) -> None:
        """Check, normalise and index the gallery.

        Args:
            ids: n distinct, non-empty ids.
            vectors: real numbers [n, D], kept as float32.
            factory: FAISS's factory string; training, where it needs any, uses the gallery itself.
            parameters: FAISS's search parameters, "nprobe=32" or "efSearch=64".
            device: "cpu", "cuda", or "auto" for a GPU when there is one.
            backend: "faiss" or "torch" (factory "Flat" alone).
            normalise: divide each vector by its length.

        Raises:
            InputError: an empty gallery, duplicate ids, zero or non-finite vectors, an unknown setting, a GPU
                asked for where there is none, a factory string that FAISS cannot build.
        """
        super().__init__(checked_ids(ids, "the gallery"))
        if not self.ids:
            raise InputError("The gallery is empty: give at least one vector.")
        rows = checked_vectors(self.ids, vectors, "the gallery")
        self.vectors: Floats = normalised(rows) if normalise else rows
        self.factory, self.parameters, self.normalise = factory, parameters, normalise
        self.backend_name = _one_of("backend", backend, BACKENDS)
        self.device = _resolved_device(_one_of("device", device, DEVICES), backend)
        self.backend = self._make_backend()

    def _make_backend(self) -> Backend:
        plain = self.factory == "Flat" and not self.parameters
        if self.backend_name == "torch" and not plain:
            raise InputError(
                f"The torch backend is exact: use backend='faiss' for the factory {self.factory!r}."
            )
        # Imported here: FAISS and torch take seconds, and a session needs one of them at most.
        module = import_module(f"mmret.retrieval.{self.backend_name}_backend")
        backend: Backend
        if self.backend_name == "torch":
            backend = module.TorchExact(self.vectors, self.device)
        elif plain and self.device == "cpu":
            backend = module.FlatFaiss(self.vectors)
        else:
            backend = module.FactoryFaiss(self.vectors, self.factory, self.parameters, self.device)
        return backend

    @property
    def width(self) -> int:
        """D."""
        return int(self.vectors.shape[1])

    def __repr__(self) -> str:
        return f"Index({len(self)} x {self.width}, {self.backend_name} {self.factory} on {self.device})"

    @cached_property
    def longest(self) -> float:
        """The length of the longest vector."""
        return float(row_norms(self.vectors).max())


def _one_of(what: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise InputError(f"An index's {what} is one of {', '.join(allowed)}, not {value!r}.")
    return value


def _resolved_device(device: str, backend: str) -> str:
    """The device meant by "auto" (a GPU if the backend sees one), or the one named."""
    if device != "auto":
        return device
    if backend == "torch":
        present = bool(import_module("torch").cuda.is_available())
    else:
        present = import_module("mmret.retrieval.faiss_backend").faiss.get_num_gpus() > 0
    return "cuda" if present else "cpu"
