"""Texts of queries to one vector per query, whatever the backbone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from mmret.backbones.prompt import Prompt
from mmret.composition.features import l2_normalise
from mmret.errors import InputError

TEXTS_AT_ONCE = 256
"""Texts that go through the text tower in one call: it bounds the memory when a query has many of them."""


T = TypeVar("T")


class TextBackbone(Protocol):
    """The part of a backbone that composers use; every `mmret.backbones.Backbone` has it."""

    spec: Any
    """Its `name` and `width` (of the features) are used."""

    @property
    def token_width(self) -> int:
        """Width T of the text tower's token embeddings."""

    def fingerprint(self) -> dict[str, str]:
        """What made its vectors."""

    def tokenize(self, texts: Sequence[str], /) -> Tensor:
        """Token ids, int64 [B, L]."""

    def encode_text(self, tokens: Tensor, /) -> Tensor:
        """Un-normalised features, float32 [B, D]."""

    def encode_queries(self, tokens: Tensor, /) -> Any:
        """The same, or several vectors a text (of `multi_vector` backbones)."""

    def tokenize_prompts(self, prompts: Sequence[Prompt], /) -> Any:
        """Token ids and the places of the pseudo-word."""

    def encode_prompts(self, prompt_tokens: Any, words: Tensor, /) -> Tensor:
        """Un-normalised features, float32 [B, D], of prompts with `words` [B, T] in place."""


def encode_texts(backbone: TextBackbone, texts: Sequence[Sequence[str]]) -> list[Tensor]:
    """For each query the un-normalised features [alternatives, D] of its texts.

    Raises:
        InputError: the backbone gives several vectors a text.
    """
    if getattr(backbone.spec, "multi_vector", False):
        raise InputError(
            f"{backbone.spec.name} gives every token of a text a vector, and this method composes single ones: use "
            "text-only, or choose another pooling."
        )
    features = [backbone.encode_text(backbone.tokenize(block)) for block in _blocks(texts)]
    return list(torch.split(torch.cat(features), [len(alternatives) for alternatives in texts]))


def encode_prompts(
    backbone: TextBackbone, prompts: Sequence[Sequence[Prompt]], words: Tensor
) -> list[Tensor]:
    """For each query the un-normalised features [alternatives, D] of its prompts with its word of [B, T]."""
    counts = [len(alternatives) for alternatives in prompts]
    repeated = words.repeat_interleave(torch.tensor(counts, device=words.device), dim=0)
    features = [
        backbone.encode_prompts(backbone.tokenize_prompts(block), block_words)
        for block, block_words in zip(_blocks(prompts), torch.split(repeated, TEXTS_AT_ONCE), strict=True)
    ]
    return list(torch.split(torch.cat(features), counts))


def _blocks(groups: Sequence[Sequence[T]]) -> list[list[T]]:
    """The items of all groups in order, cut into lists of at most `TEXTS_AT_ONCE`."""
    items = list(chain.from_iterable(groups))
    return [items[start : start + TEXTS_AT_ONCE] for start in range(0, len(items), TEXTS_AT_ONCE)]


def average_alternatives(features: Sequence[Tensor]) -> Tensor:
    """One vector per query, [B, D]: its alternatives normalised, averaged and re-normalised (SEARLE)."""
    return l2_normalise(average_raw([l2_normalise(alternatives) for alternatives in features]))


def average_raw(features: Sequence[Tensor]) -> Tensor:
    """One vector per query, [B, D]: the plain mean of its alternatives."""
    return torch.stack([alternatives.mean(dim=0) for alternatives in features])
