"""Text queries of several vectors each, for backbones that keep a vector for every token (ColPali, ColQwen2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from mmret.composition.encoding import TEXTS_AT_ONCE, TextBackbone
from mmret.composition.features import QueryBatch, captions_of
from mmret.composition.scores import Floats, Gallery, Integers, ScoreBlock
from mmret.errors import InputError


class LateInteractionGallery(Protocol):
    """Documents of several vectors each; a `mmret.retrieval.maxsim.MultiVectorIndex` is one."""

    def maxsim(self, vectors: Floats, lengths: Integers, /) -> ScoreBlock:
        """What scores queries of so many vectors each."""


@dataclass(frozen=True, eq=False)
class MultiVectorQueries:
    """B queries of several vectors each, scored by MaxSim (`Scored`).

    Attributes:
        vectors: [ΣT, D], L2-normalised, query after query.
        lengths: int64 [B, 1], how many of them each query has.
    """

    vectors: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def scores(self, gallery: Gallery) -> ScoreBlock:
        """Sums of best matches; raises `InputError` for a gallery of single vectors."""
        if not hasattr(gallery, "maxsim"):
            raise InputError(
                "Queries of several vectors search galleries of the same backbone, and this is none."
            )
        vectors = self.vectors.detach().float().cpu().numpy()
        lengths = self.lengths.flatten().cpu().numpy().astype(np.int64)
        return cast(LateInteractionGallery, gallery).maxsim(vectors, lengths)


def multi_vector_queries(backbone: TextBackbone, batch: QueryBatch) -> MultiVectorQueries:
    """The batch's texts as queries of several vectors.

    Raises:
        InputError: a query has no text, or several alternatives, which no average can join here.
    """
    captions = captions_of(batch)
    several = [name for name, texts in zip(batch.ids, captions, strict=True) if len(texts) > 1]
    if several:
        raise InputError(
            f"Query {several[0]!r} has several texts, which {backbone.spec.name} cannot average: choose a caption_join "
            "that makes one of them."
        )
    texts = [texts[0] for texts in captions]
    blocks = [texts[start : start + TEXTS_AT_ONCE] for start in range(0, len(texts), TEXTS_AT_ONCE)]
    parts: list[Any] = [backbone.encode_queries(backbone.tokenize(block)) for block in blocks]
    vectors, lengths = (torch.cat(column) for column in zip(*parts, strict=True))
    return MultiVectorQueries(vectors, lengths[:, None])
