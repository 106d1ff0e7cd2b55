import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mmret.backbones.prompt import fill
from mmret.composition import Pic2WordNetwork, load_phi
from mmret.data.images_datamodule import ImagesDataModule
from mmret.methods import Pic2Word
from tests.methods.test_lincir import trainer


def module(backbone_folder: Path, rate: float = 0.01) -> Pic2Word:
    return Pic2Word(
        str(backbone_folder), optimizer=lambda p: torch.optim.AdamW(p, lr=rate), dropout=0.0, warmup_steps=1
    )


def test_training_from_a_store_moves_phi_alone_and_writes_it(
    backbone_folder: Path, world_folder: Path, tmp_path: Path
) -> None:
    pic2word = module(backbone_folder)
    pic2word.configure_model()
    before = {name: value.clone() for name, value in pic2word.state_dict().items()}
    data = ImagesDataModule(
        f"folder:{world_folder}", batch_size=3, held_out=0, store=str(tmp_path / "stores")
    )
    fitted = trainer(tmp_path, 40)
    fitted.fit(pic2word, datamodule=data)
    moved = {
        n.split(".")[0] for n, value in pic2word.state_dict().items() if not torch.equal(value, before[n])
    }
    assert moved == {"phi"}
    assert fitted.callback_metrics["train/loss"] < 0.5 * math.log(3)
    written = load_phi(tmp_path / "phi.safetensors", backbone=str(backbone_folder))
    assert isinstance(written, Pic2WordNetwork)
    features = torch.randn(2, 16)
    assert torch.equal(written(features), pic2word.mapping.eval()(features))


def test_pixels_and_stored_features_give_the_same_loss(
    backbone_folder: Path, world_folder: Path, tmp_path: Path
) -> None:
    losses = []
    for store in (None, str(tmp_path / "stores")):
        pic2word = module(backbone_folder, rate=0.0)
        torch.manual_seed(0)
        pic2word.configure_model()
        data = ImagesDataModule(f"folder:{world_folder}", batch_size=3, held_out=0, store=store)
        fitted = trainer(tmp_path, 1)
        fitted.fit(pic2word, datamodule=data)
        losses.append(fitted.callback_metrics["train/loss"])
    torch.testing.assert_close(*losses)


def test_the_loss_is_clips_with_the_backbones_scale(backbone_folder: Path) -> None:
    pic2word = module(backbone_folder)
    pic2word.configure_model()
    pic2word.trainer = trainer(Path(), 1)
    backbone, features = pic2word.frozen, torch.randn(4, 16) * 3
    prompts = backbone.tokenize_prompts([fill("a photo of {word}")] * 4)
    texts = backbone.encode_prompts(prompts, pic2word.mapping(features))
    logits = backbone.logit_scale * F.normalize(features) @ F.normalize(texts).T
    wanted = (F.cross_entropy(logits, torch.arange(4)) + F.cross_entropy(logits.T, torch.arange(4))) / 2
    pic2word.log = lambda *_, **__: None  # type: ignore[method-assign]
    assert pic2word.training_step({"features": features}, 0).item() == pytest.approx(wanted.item(), rel=1e-5)
