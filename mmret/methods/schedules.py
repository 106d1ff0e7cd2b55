"""Learning rates over the steps of a training."""

import math
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine(total: int, warmup: int) -> Callable[[int], float]:
    """The factor at each of `total` steps: a linear warm-up times a cosine that ends at zero."""
    rising = max(1, min(warmup, total))

    def factor(step: int) -> float:
        cosine: float = 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))
        return cosine * min(1.0, (step + 1) / rising)

    return factor


def by_step(optimizer: Optimizer, factor: Callable[[int], float]) -> dict[str, Any]:
    """What Lightning's `configure_optimizers` returns for a factor that changes at every step."""
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"},
    }
