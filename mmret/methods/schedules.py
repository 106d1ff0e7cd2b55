"""Learning rates over the steps of a training, and which weights decay."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

Schedule = Literal["cosine", "linear", "constant"]

_SHAPES: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
    "constant": lambda done: 1.0,
}
"""The factor by the share of the steps that are done."""


def warmed_up(shape: Schedule, total: int, warmup: int) -> Callable[[int], float]:
    """The factor at each of `total` steps: a linear warm-up times a shape, of which two end at zero."""
    rising = max(1, min(warmup, total))

    def factor(step: int) -> float:
        return _SHAPES[shape](min(1.0, step / total)) * min(1.0, (step + 1) / rising)

    return factor


def warmup_cosine(total: int, warmup: int) -> Callable[[int], float]:
    """The factor at each of `total` steps: a linear warm-up times a cosine that ends at zero."""
    return warmed_up("cosine", total, warmup)


def by_step(optimizer: Optimizer, factor: Callable[[int], float]) -> dict[str, Any]:
    """What Lightning's `configure_optimizers` returns for a factor that changes at every step."""
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
