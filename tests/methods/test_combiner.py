import math
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from mmret.backbones import load_backbone
from mmret.composition import composer_from_spec, load_combiner
from mmret.corridor import compose, query_vectors, rank_queries
from mmret.data.annotated_folder import load_annotated_folder
from mmret.data.mined_datamodule import MinedTripletsDataModule
from mmret.encoded_benchmark import encode_benchmark
from mmret.losses import contrastive
from mmret.methods import Combiner

SIZES = {"projection_width": 8, "hidden_width": 12}


def triplets(**changes: Any) -> MinedTripletsDataModule:
    options: dict[str, Any] = {"batch_size": 8, "pairs": 60, "triplets": 16, "held_out": 8}
    return MinedTripletsDataModule(**{**options, **changes})


def fit(module: Combiner, root: Path, **changes: Any) -> Trainer:
    options: dict[str, Any] = {
        "accelerator": "cpu", "devices": 1, "max_steps": 2, "logger": False, "enable_progress_bar": False,
        "enable_checkpointing": False, "default_root_dir": root, "enable_model_summary": False,
    }  # fmt: skip
    trainer = Trainer(**{**options, **changes})
    trainer.fit(module, datamodule=triplets())
    return trainer


def test_training_writes_a_head_that_a_benchmark_can_use(
    backbone_folder: Path, world_folder: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    module = Combiner(str(backbone_folder), **SIZES)
    module.configure_model()
    assert module.network is not None
    before = {key: value.clone() for key, value in module.state_dict().items()}
    trainer = fit(module, tmp_path)
    assert math.isfinite(float(trainer.callback_metrics["val/loss"]))
    after = module.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved and all(key.startswith("network.") for key in moved)
    path = tmp_path / "combiner.safetensors"
    assert load_combiner(path).describe()["projection_width"] == 8
    backbone = load_backbone(str(backbone_folder))
    encoded = encode_benchmark(backbone, load_annotated_folder(world_folder, "test"))
    composer = composer_from_spec({"name": "combiner", "combiner": str(path)})
    ranked = rank_queries(query_vectors(compose(backbone, encoded, composer)), encoded)
    assert len(ranked.run) == 3


def test_a_tuned_backbone_is_written_beside_its_head(backbone_folder: Path, tmp_path: Path) -> None:
    module = Combiner(str(backbone_folder), **SIZES, tune_backbone=True)
    module.configure_model()
    before = {key: value.clone() for key, value in module.state_dict().items() if key.startswith("backbone.")}
    fit(module, tmp_path)
    after = module.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    tuned = load_backbone(str(tmp_path / "backbone"))
    load_combiner(tmp_path / "combiner.safetensors").check_backbone(tuned.spec.name, tuned.spec.width)


def test_checkpoints_hold_the_head_alone(backbone_folder: Path, tmp_path: Path) -> None:
    module = Combiner(str(backbone_folder), **SIZES)
    trainer = fit(module, tmp_path)
    trainer.save_checkpoint(tmp_path / "head.ckpt")
    state = torch.load(tmp_path / "head.ckpt", weights_only=False)["state_dict"]
    assert state and all(key.startswith("network.") for key in state)
    other = Combiner(str(backbone_folder), **SIZES)
    trainer.validate(
        other, datamodule=triplets(), ckpt_path=tmp_path / "head.ckpt", verbose=False, weights_only=False
    )
    assert torch.equal(other.state_dict()["network.output_layer.bias"], state["network.output_layer.bias"])


def test_the_loss_looks_one_way() -> None:
    queries, targets = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    # Both targets look alike: each query has the right one at even odds.
    assert float(contrastive(queries, targets, 100.0)) == torch.tensor(2.0).log().item()
