"""What several devices share: features as one batch, rows by position, and who writes."""

from collections.abc import Callable

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor


def gather_with_gradient(module: LightningModule, features: Tensor) -> Tensor:
    """The features of all devices, [B, D] → [W·B, D]; the gradient reaches every device's own part.

    On one device the features come back as they are. All devices must hold equally many rows.
    """
    if module.trainer.world_size == 1:
        return features
    return _all_gather(module, features, sync_grads=True).flatten(0, 1)


def gather_uneven(module: LightningModule, values: Tensor, sync_grads: bool = False) -> Tensor:
    """Values [n, ...] of all devices, one device's behind another's; devices may hold different n.

    They are padded on the way: collectives take equal lengths. With `sync_grads` the gradient reaches every device's
    own part. On one device the values come back as they are.
    """
    if module.trainer.world_size == 1:
        return values
    lengths = _lengths(module, values)
    padded = torch.cat([values, values.new_zeros((max(lengths) - len(values), *values.shape[1:]))])
    gathered = _all_gather(module, padded, sync_grads)
    return torch.cat([part[:length] for part, length in zip(gathered, lengths, strict=True)])


def first_row(module: LightningModule, values: Tensor) -> int:
    """Where this device's rows begin in what `gather_uneven` gives of `values` [n, ...]."""
    if module.trainer.world_size == 1:
        return 0
    return sum(_lengths(module, values)[: module.trainer.global_rank])


def largest(module: LightningModule, number: int) -> int:
    """The largest of the devices' numbers."""
    if module.trainer.world_size == 1:
        return number
    return int(_all_gather(module, torch.tensor(number, device=module.device)).max())


def gather_rows(module: LightningModule, positions: Tensor, rows: Tensor, count: int) -> NDArray[np.float32]:
    """Rows [n, D] of all devices as one array float32 [count, D], row i being the one at position i.

    Positions int64 [n] may repeat, on one device or over several (a distributed sampler pads the last batch with
    samples that were seen already): each counts once. Devices may hold different n.

    Raises:
        RuntimeError: a position that no device holds.
    """
    positions, rows = gather_uneven(module, positions), gather_uneven(module, rows)
    gathered = np.full((count, rows.shape[1]), np.nan, dtype=np.float32)
    gathered[positions.cpu().numpy()] = rows.detach().float().cpu().numpy()
    missing = int(np.isnan(gathered).all(axis=1).sum())
    if missing:
        raise RuntimeError(f"{missing} of {count} rows were seen by no device; was the evaluation cut short?")
    return gathered


def _lengths(module: LightningModule, values: Tensor) -> list[int]:
    lengths: list[int] = (
        _all_gather(module, torch.tensor(len(values), device=values.device)).flatten().tolist()
    )
    return lengths


def _all_gather(module: LightningModule, values: Tensor, sync_grads: bool = False) -> Tensor:
    """The values of all devices, [W, ...]; Lightning's own type allows nested collections too."""
    gathered = module.all_gather(values, sync_grads=sync_grads)
    assert isinstance(gathered, Tensor)
    return gathered


def writes_results(trainer: Trainer) -> bool:
    """Whether this process writes what a training leaves behind: the first one, unless it was a trial run."""
    return trainer.is_global_zero and not getattr(trainer, "fast_dev_run", False)


def from_first_process(module: LightningModule, measure: Callable[[], float]) -> float:
    """What the first process measures, told to all of them; the others wait."""
    value = measure() if module.trainer.is_global_zero else 0.0
    return float(module.trainer.strategy.broadcast(value))
