"""Which form of attention a training step uses."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


def training_attention(device: torch.device) -> AbstractContextManager[Any]:
    """Within: on CPUs attention is computed in its plain form; elsewhere torch chooses.

    On CPUs the backward pass of fused attention takes longer than all the rest of a small model's step: 1.8 s of
    3.0 s for the miniature's towers at a batch of 256, measured with torch's profiler on 2 cores.
    """
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
