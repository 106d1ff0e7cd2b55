"""Pseudo-words put into a text tower by position."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mmret.errors import InputError


@contextmanager
def pseudo_words(embedding: nn.Module, word_mask: Tensor, words: Tensor) -> Iterator[None]:
    """Within this context, `embedding` gives `words` [B, T] at the places of `word_mask` bool [B, L].

    The tower itself runs unchanged, so positions, attention mask, pooling and projection are its own,
    whatever its shape, and token ids (which padding masks and end-of-text pooling look at) are the
    placeholder's. Gradients flow into `words`. Not for two threads at once on one model.
    """
    if words.ndim != 2 or words.shape[0] != word_mask.shape[0]:
        raise InputError(
            f"pseudo-words come one a prompt: expected [{word_mask.shape[0]}, T], not {list(words.shape)}."
        )

    def replace(_: nn.Module, __: tuple[Tensor, ...], embedded: Tensor) -> Tensor:
        if words.shape[1] != embedded.shape[-1]:
            raise InputError(
                f"pseudo-words have {words.shape[1]} values, but this text tower's tokens have "
                f"{embedded.shape[-1]}: the mapping network was made for another backbone."
            )
        # The tower may read fewer tokens than the row holds (`shortening`).
        places = word_mask[:, : embedded.shape[1]].unsqueeze(-1)
        return torch.where(places, words.to(embedded.dtype).unsqueeze(1), embedded)

    handle = embedding.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()
