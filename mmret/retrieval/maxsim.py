"""Late interaction, exact: a document's score is the sum, over the query's vectors, of the best match among its own.

    score(q, d) = Σ_i max_j ⟨q_i, d_j⟩       (ColBERT; ColPali, arXiv 2407.01449)

Documents are scored block by block, so that memory stays within a few hundred MB however large the gallery is and
wherever it lies. Products and sums are float64: equal documents tie exactly, and a ranking is the same on every device.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmret.errors import InputError
from mmret.retrieval.checks import Floats, Integers, checked_ids, checked_vectors, normalised
from mmret.retrieval.gallery import Gallery
from mmret.retrieval.multi_vectors import ManyVectors, MultiVectors
from mmret.retrieval.run import Run
from mmret.retrieval.scored_search import search_scores

Doubles = NDArray[np.float64]

_PRODUCTS_AT_A_TIME = 2**23  # float64 products of query and document vectors: 64 MB
_VECTORS_AT_A_TIME = 2**16  # of documents, 64 MB where they are 128 wide


class MultiVectorIndex(Gallery):
    """A gallery of documents of several vectors each.

    `vectors` may be a store's (`EmbeddingStore.multi_vectors`): they are then read block by block in each search.
    """

    def __init__(
        self, ids: Iterable[str], vectors: ManyVectors, *, device: str = "cpu", normalise: bool = True
    ) -> None:
        """Take the gallery as it is; `device` is "cpu", or a device of torch.

        Raises:
            InputError: an empty gallery, duplicate ids, another count of ids than of documents, one without vectors.
        """
        super().__init__(checked_ids(ids, "the gallery"))
        if not self.ids:
            raise InputError("The gallery is empty: give at least one document.")
        if len(vectors) != len(self.ids):
            raise InputError(f"There are {len(self.ids)} ids but {len(vectors)} documents in the gallery.")
        bare = np.flatnonzero(vectors.lengths == 0)
        if len(bare):
            raise InputError(
                f"{len(bare)} documents have no vectors, first {self.ids[bare[0]]!r}: encode them again."
            )
        self.vectors, self.device, self.normalise = vectors, device, normalise

    @property
    def width(self) -> int:
        """D."""
        return self.vectors.width

    def __repr__(self) -> str:
        total = int(self.vectors.lengths.sum())
        return f"MultiVectorIndex({len(self)} documents, {total} x {self.width}, MaxSim on {self.device})"

    def maxsim(self, vectors: Floats, lengths: Sequence[int] | Integers) -> "MaxSim":
        """What scores blocks of queries, of so many `vectors` [ΣT, D] each, and documents."""
        return MaxSim(self, MultiVectors.of_lengths(vectors, lengths))


@dataclass(frozen=True, eq=False)
class MaxSim:
    """Scores of queries of several vectors over an index; a `Scores` for `search_scores`."""

    index: MultiVectorIndex
    queries: MultiVectors

    def __call__(self, queries: Integers, rows: Integers) -> Doubles:
        """Float64 [q, n] of q queries, by position, and n documents, by row of the gallery."""
        scores = np.empty((len(queries), len(rows)), np.float64)
        lengths = self.index.vectors.lengths[rows]
        for documents in _blocks(lengths, _VECTORS_AT_A_TIME):
            held = self._documents(rows[documents])
            most = max(1, _PRODUCTS_AT_A_TIME // len(held.vectors))
            for some in _blocks(self.queries.lengths[queries], most):
                scores[some, documents] = _maxsim(self.queries.take(queries[some]), held, self.index.device)
        return scores

    def _documents(self, rows: Integers) -> MultiVectors:
        held = self.index.vectors.take(rows)
        if not self.index.normalise:
            return held
        owners = tuple(np.repeat(np.array(self.index.ids, dtype=object)[rows], held.lengths))
        return MultiVectors(normalised(checked_vectors(owners, held.vectors, "the gallery")), held.offsets)


def search_multi_vectors(
    index: MultiVectorIndex,
    query_ids: Iterable[str],
    queries: MultiVectors,
    k: int,
    *,
    exclude: Mapping[str, Sequence[str]] | None = None,
    pools: Mapping[str, Sequence[str]] | None = None,
    normalise: bool = True,
) -> Run:
    """The k best documents of each query by MaxSim, ties by ascending document id; as `search` otherwise.

    Raises:
        InputError: as `search`; a query without vectors.
    """
    names = checked_ids(query_ids, "the queries")
    if len(queries) != len(names) or queries.width != index.width:
        raise InputError(
            f"There are {len(names)} ids and {len(queries)} queries, {queries.width} wide, for a gallery that is "
            f"{index.width} wide: encode both with the same backbone."
        )
    if (queries.lengths == 0).any():
        raise InputError(f"Query {names[int(np.argmin(queries.lengths))]!r} has no vectors: encode it again.")
    vectors = normalised(queries.vectors) if normalise else queries.vectors
    scores = index.maxsim(vectors, queries.lengths)
    return search_scores(index, names, scores, k, exclude=exclude, pools=pools)


def _blocks(lengths: Integers, most: int) -> Iterator[slice]:
    """Ranges of items that together have at most so many vectors, or one item each."""
    start, held = 0, 0
    for place, length in enumerate(lengths.tolist()):
        if held and held + length > most:
            yield slice(start, place)
            start, held = place, 0
        held += length
    if start < len(lengths):
        yield slice(start, len(lengths))


def _maxsim(queries: MultiVectors, documents: MultiVectors, device: str) -> Doubles:
    """Scores [q, n] of one block."""
    if device != "cpu":
        return _maxsim_torch(queries, documents, device)
    products = queries.vectors.astype(np.float64) @ documents.vectors.astype(np.float64).T
    best = np.maximum.reduceat(products, documents.offsets[:-1], axis=1)
    scores: Doubles = np.add.reduceat(best, queries.offsets[:-1], axis=0)
    return scores


def _maxsim_torch(queries: MultiVectors, documents: MultiVectors, device: str) -> Doubles:
    """The same on a device of torch; the last sum is numpy's, so that both add in one order."""
    torch: Any = import_module("torch")

    def on_device(array: NDArray[Any]) -> Any:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    products = on_device(queries.vectors).double() @ on_device(documents.vectors).double().T
    owner = on_device(np.repeat(np.arange(len(documents)), documents.lengths))
    best = torch.full((len(products), len(documents)), -torch.inf, dtype=torch.float64, device=device)
    best.scatter_reduce_(1, owner.expand(len(products), -1), products, "amax")
    scores: Doubles = np.add.reduceat(best.cpu().numpy(), queries.offsets[:-1], axis=0)
    return scores
