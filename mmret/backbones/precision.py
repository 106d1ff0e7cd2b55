"""Names of number formats and what they are in torch."""

import torch

from mmret.backbones.spec import PRECISIONS

_DTYPES = dict(zip(PRECISIONS, (torch.float32, torch.bfloat16, torch.float16), strict=True))


def torch_dtype(precision: str) -> torch.dtype:
    """Return the dtype of weights and activations for "fp32", "bf16" or "fp16"."""
    return _DTYPES[precision]
