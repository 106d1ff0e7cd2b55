"""Small trainings of DSE, for its tests."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from lightning.pytorch import Trainer

from mmret.backbones.adapters import adapter_parameters
from mmret.methods import DocumentScreenshotEmbedding

ADAM = partial(torch.optim.AdamW, lr=0.01)
SGD = partial(torch.optim.SGD, lr=0.5)
LORA = {"rank": 2, "dropout": 0.5}


def made(name: str, **options: Any) -> DocumentScreenshotEmbedding:
    """A module that stands alone, as in a training on one device."""
    module = DocumentScreenshotEmbedding(name, **{"optimizer": ADAM, **options})
    torch.manual_seed(3)
    module.configure_model()
    shake_adapter(module)
    module._trainer = SimpleNamespace(world_size=1)  # type: ignore[assignment]
    return module


def shake_adapter(module: DocumentScreenshotEmbedding) -> None:
    """A new adapter's second factor is 0, and the first has no gradient then."""
    generator = torch.Generator().manual_seed(5)
    for weight in adapter_parameters(module.model):
        weight.data += 0.1 * torch.randn(weight.shape, generator=generator)


def trainer(out: Path, **options: Any) -> Trainer:
    settings = {
        "max_steps": 4, "accelerator": "cpu", "logger": False, "enable_progress_bar": False,
        "enable_model_summary": False, "enable_checkpointing": False, "default_root_dir": out,
    }  # fmt: skip
    return Trainer(**{**settings, **options})
