from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from mmret.composition import MappingNetwork, load_phi
from mmret.data.images_datamodule import InvertedImagesDataModule
from mmret.inversion import OTI
from mmret.methods import SEARLE
from tests.methods.test_lincir import trainer


def data(world: Path, out: Path, **options: Any) -> InvertedImagesDataModule:
    settings = {"batch_size": 3, "held_out": 0, "store": str(out / "stores"), "words": str(out / "words")}
    return InvertedImagesDataModule(f"folder:{world}", inversion=OTI(steps=3), **(settings | options))


def test_phi_learns_the_words_that_oti_found(
    backbone_folder: Path, world_folder: Path, tmp_path: Path
) -> None:
    searle = SEARLE(str(backbone_folder), optimizer=lambda p: torch.optim.AdamW(p, lr=0.01), dropout=0.0)
    world = data(world_folder, tmp_path)
    trainer(tmp_path, 60).fit(searle, datamodule=world)
    words = torch.stack([world.train[row][2] for row in range(3)])
    features = torch.stack([world.train[row][1] for row in range(3)])
    near = F.normalize(searle.mapping.infer(features)) @ F.normalize(words).T
    assert near.argmax(dim=1).tolist() == [0, 1, 2]
    written = load_phi(tmp_path / "phi.safetensors", backbone=str(backbone_folder))
    assert isinstance(written, MappingNetwork)
    assert torch.equal(written(features), searle.mapping.infer(features))


def test_words_and_features_are_found_once(
    backbone_folder: Path, world_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, again = data(world_folder, tmp_path), data(world_folder, tmp_path)
    for module in (first, again):
        module.hparams["backbone"] = str(backbone_folder)
    first.prepare_data()
    monkeypatch.setattr(OTI, "__call__", lambda *_: pytest.fail("inverted again"))
    again.prepare_data()
    again.setup()
    assert len(again.train) == 3


def test_the_two_terms_are_weighted_as_stated(backbone_folder: Path) -> None:
    searle = SEARLE(str(backbone_folder), lambda_distil=2.0, lambda_gpt=0.5, dropout=0.0)
    searle.configure_model()
    searle.trainer = trainer(Path(), 1)
    searle.on_fit_start()
    logged: dict[str, float] = {}
    searle.log = lambda name, value, **_: logged.update({name: value.item()})  # type: ignore[method-assign]
    searle.log_dict = lambda values, **_: logged.update({n: v.item() for n, v in values.items()})  # type: ignore[method-assign]
    searle.training_step({"features": torch.randn(4, 16), "words": torch.randn(4, 16)}, 0)
    assert logged["train/loss"] == pytest.approx(
        2 * logged["train/distil"] + 0.5 * logged["train/phrases"], rel=1e-5
    )
    assert 0 < logged["train/phrases"] < 2


def test_without_the_phrase_term_no_phrases_are_read(backbone_folder: Path) -> None:
    searle = SEARLE(str(backbone_folder), phrases="no/such/file.json", lambda_gpt=0)
    searle.configure_model()
    searle.on_fit_start()
    assert searle._phrase_loss(torch.ones(1, 16), torch.ones(1, 16)).item() == 0
