"""Features from every device as one batch."""

import numpy as np
import torch
from lightning.pytorch import LightningModule
from numpy.typing import NDArray
from torch import Tensor


def gather_with_gradient(module: LightningModule, features: Tensor) -> Tensor:
    """The features of all devices, [B, D] → [W·B, D]; the gradient reaches every device's own part.

    On one device the features come back as they are. All devices must hold equally many rows.
    """
    if module.trainer.world_size == 1:
        return features
    gathered = module.all_gather(features, sync_grads=True)
    return gathered.flatten(0, 1)


def gather_rows(module: LightningModule, positions: Tensor, rows: Tensor, count: int) -> NDArray[np.float32]:
    """Rows [n, D] of all devices as one array float32 [count, D], row i being the one at position i.

    Positions int64 [n] may repeat, on one device or over several (a distributed sampler pads the last batch with
    samples that were seen already): each counts once. Devices may hold different n.

    Raises:
        RuntimeError: a position that no device holds.
    """
    if module.trainer.world_size > 1:
        positions, rows = _gather_uneven(module, positions), _gather_uneven(module, rows)
    gathered = np.full((count, rows.shape[1]), np.nan, dtype=np.float32)
    gathered[positions.cpu().numpy()] = rows.detach().float().cpu().numpy()
    missing = int(np.isnan(gathered).all(axis=1).sum())
    if missing:
        raise RuntimeError(f"{missing} of {count} rows were seen by no device; was the evaluation cut short?")
    return gathered


def _gather_uneven(module: LightningModule, values: Tensor) -> Tensor:
    """Values [n, ...] of all devices, one after the other; a collective takes only equal lengths, so they are padded."""
    lengths = module.all_gather(torch.tensor(len(values), device=values.device)).flatten()
    longest = int(lengths.max())
    padded = torch.cat([values, values.new_zeros((longest - len(values), *values.shape[1:]))])
    gathered = module.all_gather(padded)
    return torch.cat([part[:length] for part, length in zip(gathered, lengths.tolist(), strict=True)])
