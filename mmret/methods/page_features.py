"""Queries and pages of a batch through a backbone, whole or in chunks with a gradient cache."""

from collections.abc import Callable, Sequence
from functools import partial

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


def page_chunks(backbone: Backbone, pages: Pixels, size: int) -> list[Encode]:
    """The encodings of up to `size` pages each.

    Pages are counted, whatever their sizes; what a model takes of them (Qwen's patches, one behind another) is made
    within each chunk, and never split.
    """
    starts = range(0, len(pages), size)
    return [partial(_pages, backbone, pages[start : start + size]) for start in starts]


def encode(
    chunks: Sequence[Encode], learning: Sequence[nn.Parameter] | None = None, sharded: bool = False
) -> Features:
    """The features of all chunks, in order.

    With `learning`, the parameters that learn, only one chunk's activations are held at a time (`cached_features`);
    `sharded` says that devices share them (FSDP).
    """
    lengths: dict[int, Tensor] = {}
    calls = [partial(_vectors, chunk, lengths, place) for place, chunk in enumerate(chunks)]
    if learning:
        vectors = cached_features(calls, learning, accumulate=sharded)
    else:
        vectors = torch.cat([call() for call in calls])
    if not lengths:
        return vectors
    return TokenVectors(vectors, torch.cat([lengths[place] for place in range(len(chunks))]))


def _vectors(chunk: Encode, lengths: dict[int, Tensor], place: int) -> Tensor:
    """A chunk's vectors as one tensor; how many each input has is noted, where they are several."""
    features = chunk()
    if isinstance(features, TokenVectors):
        lengths[place] = features.lengths
        return features.vectors
    return features


def _queries(backbone: Backbone, tokens: Tensor) -> Features:
    with training_attention(backbone.device):
        return backbone.encode_queries(tokens.to(backbone.device))


def _pages(backbone: Backbone, pages: Pixels) -> Features:
    with training_attention(backbone.device):
        return backbone.encode_documents(pages)
