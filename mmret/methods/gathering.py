"""Features from every device as one batch."""

from lightning.pytorch import LightningModule
from torch import Tensor


def gather_with_gradient(module: LightningModule, features: Tensor) -> Tensor:
    """The features of all devices, [B, D] → [W·B, D]; the gradient reaches every device's own part.

    On one device the features come back as they are. All devices must hold equally many rows.
    """
    if module.trainer.world_size == 1:
        return features
    gathered = module.all_gather(features, sync_grads=True)
    return gathered.flatten(0, 1)
