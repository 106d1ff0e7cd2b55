import math
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from mmret.backbones import load_backbone
from mmret.methods import DocumentScreenshotEmbedding
from tests.methods.toy_pages import ToyPages

ADAM = partial(torch.optim.AdamW, lr=0.01)


def trainer(out: Path, **options: Any) -> Trainer:
    settings = {
        "max_steps": 4, "accelerator": "cpu", "logger": False, "enable_progress_bar": False,
        "enable_model_summary": False, "enable_checkpointing": False, "default_root_dir": out,
    }  # fmt: skip
    return Trainer(**{**settings, **options})


def test_training_learns_the_pages_and_writes_a_backbone(backbone_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = DocumentScreenshotEmbedding(str(backbone_folder), ADAM, temperature=0.1, symmetric=True)
    data = ToyPages(str(backbone_folder), batch_size=8)
    run = trainer(tmp_path, max_steps=100)
    run.fit(module, datamodule=data)
    found = run.callback_metrics
    assert found["train/loss"] < 0.7 * math.log(8)
    assert found["val/recall@10"] == 1 and found["val/recall@1"] == 1
    written = load_backbone(str(tmp_path / "backbone"))
    tokens = written.tokenize(["a red page"])
    asked = written.encode_text(tokens)
    assert not torch.allclose(asked, load_backbone(str(backbone_folder)).encode_text(tokens))
    # Half precision on disk.
    assert torch.allclose(asked, module.model.eval().encode_text(tokens), atol=0.02, rtol=0.02)
