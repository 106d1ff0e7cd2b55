"""Learning rates over the steps of a training, and which weights decay."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

from lightning.pytorch import Trainer
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mmret.errors import InputError

Schedule = Literal["cosine", "linear", "constant"]

_SHAPES: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
    "constant": lambda done: 1.0,
}
"""The factor by the share of the steps that are done."""


def warmed_up(shape: Schedule, total: float, warmup: int) -> Callable[[int], float]:
    """The factor at each of `total` steps: a linear warm-up times a shape, of which two end at zero."""
    rising = max(1, min(warmup, total))

    def factor(step: int) -> float:
        return _SHAPES[shape](min(1.0, step / total)) * min(1.0, (step + 1) / rising)

    return factor


def by_step(
    trainer: Trainer, optimizer: Optimizer, warmup: int, shape: Schedule = "cosine"
) -> dict[str, Any]:
    """What Lightning's `configure_optimizers` returns for a rate that changes at every step, over a whole training.

    Args:
        trainer: Knows how many steps there will be.
        optimizer: Whose learning rates are the highest ones.
        warmup: Steps of linear warm-up.
        shape: What the rate does over the training.

    Raises:
        InputError: the training has no end, with which the rate would fall to zero.
    """
    total = trainer.estimated_stepping_batches
    if math.isinf(total) and shape != "constant":
        raise InputError(
            f"the training has no end for its learning rate to fall to ({shape}): give the trainer max_steps or "
            "max_epochs."
        )
    factor = warmed_up(shape, total, warmup)
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"},
    }


def decay_groups(parameters: Iterable[nn.Parameter]) -> list[dict[str, Any]]:
    """Two parameter groups of what learns: gains, biases and scales are not decayed (CLIP, section 2.5)."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2]},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
