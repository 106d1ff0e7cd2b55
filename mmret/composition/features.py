"""What goes into a composer and what comes out of it.

B = queries in a batch, D = embedding width. All tensors of one object lie on one device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmret.errors import InputError

ROUNDING_STEPS = 8
"""A vector whose norm lies within this many machine epsilons of 1 counts as normalised already."""


def l2_normalise(vectors: Tensor) -> Tensor:
    """`vectors` [..., D] divided by their L2 norms, in float32 (float64 stays float64); zeros stay zeros.

    Idempotent to the last bit: dividing a unit vector once more by a norm that is 1 up to rounding would
    move its components by a unit or two in the last place, so such a norm is taken as 1. That is what makes
    `prompt_directional_vectors` return the base method itself at α = α = β = 1.
    """
    floating = vectors if vectors.dtype == torch.float64 else vectors.float()
    norms = torch.linalg.vector_norm(floating, dim=-1, keepdim=True)
    keep = (norms == 0) | ((norms - 1).abs() <= ROUNDING_STEPS * torch.finfo(floating.dtype).eps)
    return floating / torch.where(keep, torch.ones_like(norms), norms)


@dataclass(frozen=True)
class QueryBatch:
    """A batch of composed queries: for each one a reference image and the edit in words.

    Attributes:
        ids: B query ids.
        references: B ids of the reference images.
        texts: for each query the alternatives of its relative caption (one, or both orders of FashionIQ's
            two captions); empty for a query with no text, which only `ImageOnly` accepts.
        reference_image: [B, D], the backbone's features of the reference images, **un-normalised**: φ
            networks were trained on them so.

    Raises:
        InputError: if the lengths differ or `reference_image` is not [B, D].
    """

    ids: tuple[str, ...]
    references: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]
    reference_image: Tensor

    def __post_init__(self) -> None:
        lengths = {len(self.ids), len(self.references), len(self.texts), len(self.reference_image)}
        if len(lengths) != 1 or self.reference_image.ndim != 2:
            raise InputError(
                f"a query batch holds {len(self.ids)} ids, {len(self.references)} references, "
                f"{len(self.texts)} texts and image features of shape {tuple(self.reference_image.shape)}; "
                "give one of each per query and features [B, D]."
            )

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class ComposedFeatures:
    """The three features on which PDV acts, each [B, D] and L2-normalised on construction.

    Attributes:
        reference_image: V_ref, the reference image.
        reference_text: T_ref, the reference in words (an empty edit).
        composed_text: T_comp, the reference and the edit in words. This is the base method's query.

    Raises:
        InputError: if the three shapes differ or are not [B, D].
    """

    reference_image: Tensor
    reference_text: Tensor
    composed_text: Tensor

    def __post_init__(self) -> None:
        check_same_shape(self.reference_image, self.reference_text, self.composed_text)
        for name in ("reference_image", "reference_text", "composed_text"):
            object.__setattr__(self, name, l2_normalise(getattr(self, name)))

    def __len__(self) -> int:
        return len(self.composed_text)


def check_same_shape(reference_image: Tensor, reference_text: Tensor, composed_text: Tensor) -> None:
    """Raise `InputError` unless the three are [B, D] of one shape."""
    shapes = [tuple(features.shape) for features in (reference_image, reference_text, composed_text)]
    if len(set(shapes)) != 1 or len(shapes[0]) != 2:
        raise InputError(
            f"reference image, reference text and composed text have the shapes {shapes[0]}, {shapes[1]} and "
            f"{shapes[2]}; PDV needs three [B, D] tensors of one shape, from one backbone."
        )


def captions_of(batch: QueryBatch) -> tuple[tuple[str, ...], ...]:
    """The batch's texts, or an `InputError` that names the queries which have none."""
    silent = [query_id for query_id, texts in zip(batch.ids, batch.texts, strict=True) if not texts]
    if silent:
        raise InputError(
            f"{len(silent)} of {len(batch)} queries have no text ({', '.join(silent)}); "
            "only image-only works without."
        )
    return batch.texts
