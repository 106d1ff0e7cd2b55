import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from mmret.backbones import load_backbone
from mmret.data.datamodules import CaptionedImagesDataModule
from mmret.errors import InputError
from mmret.methods import ContrastivePretraining
from mmret.methods.schedules import decay_groups
from tests.methods.toy_data import write_world


def train(folder: Path, world: Path, out: Path, **options: Any) -> tuple[ContrastivePretraining, Trainer]:
    module = ContrastivePretraining(
        str(folder), optimizer=lambda groups: torch.optim.AdamW(groups, lr=0.02), warmup_steps=2, **options
    )
    data = CaptionedImagesDataModule(f"folder:{world}", batch_size=3, held_out=0)
    trainer = Trainer(
        max_steps=25, accelerator="cpu", default_root_dir=out, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return module, trainer


def test_training_learns_the_pairs_and_writes_a_backbone(
    backbone_folder: Path, world_folder: Path, tmp_path: Path
) -> None:
    module, trainer = train(backbone_folder, world_folder, tmp_path)
    assert trainer.callback_metrics["train/loss"] < 0.7 * math.log(3)
    written = load_backbone(str(tmp_path / "backbone"))
    before = load_backbone(str(backbone_folder))
    tokens = before.tokenize(["a red square"])
    after = written.encode_text(tokens)
    assert not torch.allclose(after, before.encode_text(tokens))
    # Half precision on disk.
    assert torch.allclose(after, module.model.eval().encode_text(tokens), atol=0.02, rtol=0.02)


def test_gains_biases_and_the_scale_are_not_decayed(backbone_folder: Path) -> None:
    module = ContrastivePretraining(str(backbone_folder))
    module.configure_model()
    decayed, plain = decay_groups(module.parameters())
    assert plain["weight_decay"] == 0
    assert {parameter.ndim for parameter in plain["params"]} <= {0, 1}
    assert min(parameter.ndim for parameter in decayed["params"]) == 2
    assert len(decayed["params"]) + len(plain["params"]) == len(list(module.parameters()))


def test_the_scale_never_passes_one_hundred(backbone_folder: Path) -> None:
    module = ContrastivePretraining(str(backbone_folder))
    module.configure_model()
    with torch.no_grad():
        module.model.learnt_scale.fill_(9.0)
    module.on_train_batch_end(None, None, 0)
    assert module.model.learnt_scale.exp().item() == pytest.approx(100)


def test_the_scale_begins_where_it_is_told_and_elsewhere_stays(backbone_folder: Path) -> None:
    scales = []
    for asked in (14.3, None):
        module = ContrastivePretraining(str(backbone_folder), initial_scale=asked)
        module.configure_model()
        scales.append(module.model.learnt_scale.exp().item())
    assert scales == pytest.approx([14.3, load_backbone(str(backbone_folder)).logit_scale])
    with pytest.raises(InputError, match=r"initial_scale is 0\.07; give a factor from 1 to 100"):
        ContrastivePretraining(str(backbone_folder), initial_scale=0.07).configure_model()


def test_from_scratch_forgets_the_weights(backbone_folder: Path) -> None:
    torch.manual_seed(7)
    fresh = ContrastivePretraining(str(backbone_folder), from_scratch=True)
    fresh.configure_model()
    named = ContrastivePretraining(str(backbone_folder))
    named.configure_model()
    weights = [next(module.model.model.visual.parameters()) for module in (fresh, named)]
    assert not torch.equal(*weights)


def test_a_named_backbone_is_trained_awake(backbone_folder: Path) -> None:
    """Loaded backbones sleep (evaluation mode); batch statistics and dropout must not stay so in training."""
    module = ContrastivePretraining(str(backbone_folder))
    module.configure_model()
    assert all(part.training for part in module.model.modules())
    assert all(parameter.requires_grad for parameter in module.parameters())


def one_step(folder: Path, world: Path, out: Path, devices: int) -> tuple[dict[str, torch.Tensor], float]:
    """The weights and the loss of one plain gradient step on four pairs, spread over the devices."""
    module = ContrastivePretraining(str(folder), optimizer=partial(torch.optim.SGD, lr=0.5), warmup_steps=1)
    module.configure_model()  # here, so that the spawned processes hand their weights back to it
    data = CaptionedImagesDataModule(f"folder:{world}", batch_size=4 // devices, held_out=0)
    trainer = Trainer(
        max_steps=1, accelerator="cpu", devices=devices, strategy="ddp_spawn" if devices > 1 else "auto",
        default_root_dir=out, logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    weights = {name: value.detach().clone() for name, value in module.state_dict().items()}
    return weights, trainer.callback_metrics["train/loss"].item()


@pytest.mark.multiprocess
def test_two_devices_take_the_step_of_one_with_the_whole_batch(backbone_folder: Path, tmp_path: Path) -> None:
    """Negatives come from both devices and the gradient reaches both parts: the step is the undivided batch's."""
    world = write_world(tmp_path / "world", trained=4)
    alone, loss_alone = one_step(backbone_folder, world, tmp_path / "alone", devices=1)
    together, loss_together = one_step(backbone_folder, world, tmp_path / "together", devices=2)
    before = load_backbone(str(backbone_folder)).state_dict()
    assert loss_together == pytest.approx(loss_alone, rel=1e-5)
    moved = [
        name
        for name, value in alone.items()
        if not torch.equal(value, before[name.removeprefix("backbone.")])
    ]
    assert len(moved) > 10
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=1e-4, atol=1e-6)
