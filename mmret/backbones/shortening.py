"""Text towers that read no further than the last text ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import open_clip
from torch import Tensor


@contextmanager
def shortened(model: Any, tokens: Tensor) -> Iterator[tuple[Any, Tensor]]:
    """Within, `model` reads `tokens` int64 [B, L] only up to the last end of text: gives (model, ids [B, l ≤ L]).

    CLIP's own text tower is causal and takes the feature at the end of the text, so what stands behind it (the
    padding to 77 places) changes nothing but the time: a short prompt costs a fifth. Features agree with those of
    the whole row up to rounding. Any other kind of tower reads its rows as they are. Not for two threads at once
    on one model.
    """
    causal = (
        type(model) is open_clip.CLIP and model.text_pool_type == "argmax" and model.attn_mask is not None
    )
    if not causal or tokens.is_meta:
        yield model, tokens
        return
    length = int(tokens.argmax(dim=-1).max()) + 1 if len(tokens) else tokens.shape[1]
    positions, mask = model._parameters["positional_embedding"], model._buffers["attn_mask"]
    # Not by assignment: a view of a parameter is none, and the tower's own must be there again afterwards.
    model._parameters["positional_embedding"] = positions[:length]
    model._buffers["attn_mask"] = mask[:length, :length]
    try:
        yield model, tokens[:, :length]
    finally:
        model._parameters["positional_embedding"], model._buffers["attn_mask"] = positions, mask
