"""Features of captions by a frozen text encoder, each computed once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmret.backbones.base import Backbone


class CaptionFeatures:
    """Un-normalised features by caption, kept on the CPU up to a number of captions; further ones are not kept.

    Args:
        capacity: Captions to keep: 4·D bytes each, 3 kB at a width of 768.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.known: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, backbone: Backbone, captions: Sequence[str]) -> Tensor:
        """Features float32 [B, D] of B captions, on the backbone's device; equal ones are encoded once."""
        missing = [text for text in dict.fromkeys(captions) if text not in self.known]
        new = self._encoded(backbone, missing) if missing else {}
        rows = [new[text] if text in new else self.known[text] for text in captions]
        return torch.stack(rows).to(backbone.device)

    def _encoded(self, backbone: Backbone, captions: list[str]) -> dict[str, Tensor]:
        features = backbone.encode_text(backbone.tokenize(captions)).float().cpu()
        found = dict(zip(captions, features, strict=True))
        free = max(0, self.capacity - len(self.known))
        # Cloned: a row alone would keep its whole batch alive.
        self.known |= {text: found[text].clone() for text in captions[:free]}
        return found
