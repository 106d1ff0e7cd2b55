import warnings
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from mmret.composition import load_phi
from mmret.data.datamodules import CaptionsDataModule
from mmret.methods import LinCIR


def trainer(out: Path, steps: int) -> Trainer:
    return Trainer(
        max_steps=steps, accelerator="cpu", default_root_dir=out, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, limit_val_batches=0,
    )  # fmt: skip


def test_training_moves_phi_alone_and_writes_it(
    backbone_folder: Path, world_folder: Path, tmp_path: Path
) -> None:
    module = LinCIR(
        str(backbone_folder), optimizer=lambda p: torch.optim.AdamW(p, lr=0.01), dropout=0.0, noise="rms"
    )
    module.configure_model()
    assert module.phi is not None and module.backbone is not None
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trainer(tmp_path, 30).fit(module, datamodule=CaptionsDataModule(f"folder:{world_folder}", 3, held_out=0))
    moved = {
        name.split(".")[0]
        for name, value in module.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert moved == {"phi"}
    written = load_phi(tmp_path / "phi.safetensors", backbone=str(backbone_folder))
    features = torch.randn(2, 16)
    assert torch.equal(written(features), module.phi.eval()(features))


def test_a_masked_caption_comes_nearer_to_the_caption(
    backbone_folder: Path, world_folder: Path, tmp_path: Path
) -> None:
    module = LinCIR(
        str(backbone_folder), optimizer=lambda p: torch.optim.AdamW(p, lr=0.01), dropout=0.0, noise=0.0
    )
    module.configure_model()
    captions = ["a red square", "a green square", "a blue square"]
    before, after = [], []
    for found in (before, after):
        masked, original = module._reconstruct(captions, noisy=False)
        found.append((masked - original).square().mean().item())
        if found is before:
            data = CaptionsDataModule(f"folder:{world_folder}", 3, held_out=0)
            trainer(tmp_path, 60).fit(module, datamodule=data)
    assert after[0] < 0.5 * before[0]


def test_a_checkpoint_holds_phi_and_not_the_backbone(backbone_folder: Path) -> None:
    module = LinCIR(str(backbone_folder))
    module.configure_model()
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    assert {name.split(".")[0] for name in checkpoint["state_dict"]} == {"phi"}
    other = LinCIR(str(backbone_folder))
    other.configure_model()
    other.on_load_checkpoint(checkpoint)
    other.load_state_dict(checkpoint["state_dict"])
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(("noise", "wanted"), [(2.0, 2.0), ("rms", 5.0)])
def test_the_noise_has_the_stated_scale(backbone_folder: Path, noise: float | str, wanted: float) -> None:
    torch.manual_seed(0)
    drawn = LinCIR(str(backbone_folder), noise=noise)._noise_like(torch.full((4000, 64), -5.0))
    # The variance of u·ε with u ~ U(0, 1) is a third of ε's.
    assert drawn.std().item() == pytest.approx(wanted / 3**0.5, rel=0.03)
    assert drawn.std(dim=1).min() < 0.1 * wanted


def test_cut_captions_are_counted_once_for_the_whole_training(backbone_folder: Path, tmp_path: Path) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_text("a red square\n" + "very " * 200 + "blue square\n", encoding="utf-8")
    module = LinCIR(str(backbone_folder))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer(tmp_path, 3).fit(module, datamodule=CaptionsDataModule(str(captions), 2, held_out=0))
    told = [str(warning.message) for warning in caught if "were cut" in str(warning.message)]
    # Each step reads both captions twice: whole and masked.
    assert len(told) == 1
    assert told[0].startswith("6 of 12 texts")
