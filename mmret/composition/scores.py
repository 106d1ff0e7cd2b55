"""Queries that are more than one vector: what scores similarities, and what needs the gallery first.

Most methods give one vector a query, and the score of a document is its cosine similarity to that. SEIZE, AdaST and
ComCLIP combine several similarities by a rule that no single vector can stand for. Such a method gives an object
with `scores` (`Scored`), and a search asks it for blocks of scores. LDRE's weights and ComCLIP's sub-images depend on
the gallery: such a method gives an object with `settle` (`NeedsGallery`), which is asked once all queries are there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmret.composition.features import ComposedFeatures

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]


class Gallery(Protocol):
    """The searched documents; a `mmret.retrieval.index.Index` is one."""

    @property
    def ids(self) -> Sequence[str]:
        """N document ids."""

    @property
    def vectors(self) -> Floats:
        """[N, D], L2-normalised; may be memory-mapped."""

    @property
    def rows_by_id(self) -> Integers:
        """The rows in ascending order of document id, [N]."""

    @property
    def positions(self) -> Mapping[str, int]:
        """Document id → row."""


class ScoreBlock(Protocol):
    """Scores blocks of queries and documents; higher is better."""

    def __call__(self, queries: Integers, rows: Integers, /) -> Doubles:
        """Float64 [q, n]: of q queries, by position, and n documents, by row of the gallery."""


@runtime_checkable
class Scored(Protocol):
    """Queries that score documents themselves."""

    def __len__(self) -> int:
        """The number of queries."""

    def scores(self, gallery: Gallery, /) -> ScoreBlock:
        """What scores them against this gallery."""


class Region(NamedTuple):
    """A part of an image: the image outside of the boxes is black.

    `boxes` are (left, top, right, bottom) in pixels, both corners inside; none of them: the whole image.
    """

    image: str
    boxes: tuple[tuple[float, float, float, float], ...]


class Surroundings(Protocol):
    """What queries may be settled in; an `mmret.encoded_benchmark.EncodedBenchmark` is one."""

    @property
    def index(self) -> Gallery:
        """The gallery."""

    @property
    def query_ids(self) -> Sequence[str]:
        """All Q query ids, in order."""

    def encode_regions(self, regions: Sequence[Region], /) -> Floats:
        """The backbone's features, un-normalised [R, D], of parts of images."""


@runtime_checkable
class NeedsGallery(Protocol):
    """Features of all queries that become the query only in the sight of the gallery."""

    def __len__(self) -> int:
        """The number of queries."""

    def settle(self, surroundings: Surroundings, /) -> ComposedFeatures | Scored:
        """The queries as they are searched with."""


Composed = ComposedFeatures | Tensor | Scored | NeedsGallery
"""What a composer may return."""

Settled = ComposedFeatures | Tensor | Scored
"""What is left of that once the gallery is known."""

C = TypeVar("C")


def columns(features: Any) -> dict[str, Tensor]:
    """The tensors [B, …] of composed features by name; a bare tensor is the column "vector"."""
    if isinstance(features, Tensor):
        return {"vector": features}
    values = {field.name: getattr(features, field.name) for field in fields(features)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def with_columns(features: C, tensors: Mapping[str, Tensor]) -> C:
    """Features like these with other tensors, such as those of more queries."""
    if isinstance(features, Tensor):
        return cast(C, tensors["vector"])
    return cast(C, replace(cast(Any, features), **tensors))


def concatenate(parts: Sequence[C]) -> C:
    """The features of several batches of one composer as one, in order."""
    each = [columns(part) for part in parts]
    return with_columns(parts[0], {name: torch.cat([part[name] for part in each]) for name in each[0]})


class Rule(Protocol):
    """A pure function from several similarities of a query and a document to one score."""

    def __call__(self, similarities: Doubles, parameters: Doubles, /) -> Doubles:
        """Scores [q, n] of similarities [M, q, n] and the queries' own numbers [P, q, 1]."""


@dataclass(frozen=True, eq=False)
class SimilarityScores:
    """Queries of M vectors each; a document's score is a rule of its M similarities to them.

    Attributes:
        vectors: [B, M, D], used as they are (normalise what is to be compared by cosine).
        parameters: [B, P], numbers of the query that the rule needs beside its similarities; P may be 0.
        rule: From similarities to scores.
    """

    vectors: Tensor
    parameters: Tensor
    rule: Rule

    def __len__(self) -> int:
        return len(self.vectors)

    def scores(self, gallery: Gallery) -> ScoreBlock:
        """Similarities are summed in float64, so that equal documents score equally."""
        own = self.vectors.detach().double().cpu().numpy()
        numbers = self.parameters.detach().double().cpu().numpy()

        def block(queries: Integers, rows: Integers) -> Doubles:
            documents = np.asarray(gallery.vectors[rows], np.float64)
            similarities = np.moveaxis(own[queries] @ documents.T, 1, 0)
            return self.rule(similarities, numbers[queries].T[:, :, None])

        return block
