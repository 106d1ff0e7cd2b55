"""Lightning modules whose activations may be computed a second time, in the backward pass."""

from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor

from mmret.backbones.attention import training_attention


class RecomputingModule(LightningModule):
    """A module whose backward pass computes attention in the form that its forward pass has.

    Without it, checkpointed layers would be recomputed, on CPUs, with another form than `training_attention` chose
    for them, and torch refuses that.
    """

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """As ever, within `training_attention`."""
        with training_attention(self.device):
            super().backward(loss, *args, **kwargs)
