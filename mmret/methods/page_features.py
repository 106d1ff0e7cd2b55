"""Queries and pages of a batch through a backbone, whole or in chunks with a gradient cache."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from mmret.backbones.attention import training_attention
from mmret.backbones.base import Backbone, Features, TokenVectors
from mmret.backbones.preprocess import Pixels
from mmret.methods.gradient_cache import cached_features

Encode = Callable[[], Features]


def query_chunks(backbone: Backbone, queries: Sequence[str], size: int) -> list[Encode]:
    """The encodings of up to `size` queries each."""
    tokens = backbone.tokenize(queries)
    return [partial(_queries, backbone, part) for part in torch.split(tokens, size)]


def page_chunks(backbone: Backbone, pages: Pixels | Sequence[str], size: int) -> list[Encode]:
    """The encodings of up to `size` pages each; pages that are texts are encoded as queries are.

    Pages are counted, whatever their sizes; what a model takes of them (Qwen's patches, one behind another) is made
    within each chunk, and never split.
    """
    if isinstance(pages[0], str):
        return query_chunks(backbone, cast(Sequence[str], pages), size)
    images = cast(Pixels, pages)
    starts = range(0, len(images), size)
    return [partial(_pages, backbone, images[start : start + size]) for start in starts]


def encode(
    queries: Sequence[Encode],
    pages: Sequence[Encode],
    learning: Sequence[nn.Parameter] | None = None,
    accumulate: bool = False,
) -> tuple[Features, Features]:
    """The features of all queries and of all pages, in order: float32 [B, D] and [P, D], or `TokenVectors` of as many.

    Args:
        queries: The chunks of B queries, one or more: `query_chunks`.
        pages: The chunks of P pages, one or more: `page_chunks`.
        learning: The parameters that learn, for the gradient cache: only one chunk's activations are held at a time.
            None, or none: all are held.
        accumulate: As of `cached_features`.

    Raises:
        InputError: something that the backbone does not encode.
    """
    chunks, sizes = [*queries, *pages], dict[int, _Size]()
    calls = [partial(_vectors, chunk, sizes, place) for place, chunk in enumerate(chunks)]
    whole = cached_features(calls, learning, accumulate) if learning else torch.cat([c() for c in calls])
    first = sum(sizes[place].rows for place in range(len(queries)))
    lengths = [sizes[place].lengths for place in range(len(chunks))]
    return (
        _features(whole[:first], lengths[: len(queries)]),
        _features(whole[first:], lengths[len(queries) :]),
    )


class _Size(NamedTuple):
    """How many vectors a chunk has, and how many of them each input, where that is not one."""

    rows: int
    lengths: Tensor | None


def _vectors(chunk: Encode, sizes: dict[int, _Size], place: int) -> Tensor:
    """A chunk's vectors as one tensor, whose size is noted."""
    features = chunk()
    vectors, lengths = features if isinstance(features, TokenVectors) else (features, None)
    sizes[place] = _Size(len(vectors), lengths)
    return vectors


def _features(vectors: Tensor, lengths: Sequence[Tensor | None]) -> Features:
    several = [length for length in lengths if length is not None]
    return TokenVectors(vectors, torch.cat(several)) if several else vectors


def _queries(backbone: Backbone, tokens: Tensor) -> Features:
    with training_attention(backbone.device):
        return backbone.encode_queries(tokens.to(backbone.device))


def _pages(backbone: Backbone, pages: Pixels) -> Features:
    with training_attention(backbone.device):
        return backbone.encode_documents(pages)
