"""What all trainings of φ share: a frozen backbone, φ as the only thing that learns, and its file at the end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from mmret.backbones import load_backbone
from mmret.backbones.base import Backbone
from mmret.composition.phi import MappingNetwork, Phi
from mmret.composition.phi_files import save_phi
from mmret.methods.gathering import writes_results
from mmret.methods.schedules import by_step


class PhiTraining(LightningModule):
    """Trains φ on a frozen backbone and writes it to `<root>/phi.safetensors`.

    A subclass says what is lost, and saves its own hyper-parameters: among them the backbone's name as `backbone`, and
    φ's `hidden_width` and `dropout`. φ is SEARLE's and LinCIR's network, unless `make_phi` makes another.

    Args:
        optimizer: Over φ's parameters.
        warmup_steps: Steps of linear warm-up before a cosine that ends at zero; None: a constant learning rate.
    """

    def __init__(self, optimizer: OptimizerCallable, warmup_steps: int | None) -> None:
        super().__init__()
        self.optimizer, self.warmup = optimizer, warmup_steps
        self.backbone: Backbone | None = None
        self.phi: Phi | None = None

    def make_phi(self, width: int, token_width: int, backbone: str) -> Phi:
        """A new φ for a backbone of that name, with these widths of features and of tokens."""
        hidden = self.hparams["hidden_width"] or 4 * width
        return MappingNetwork(width, hidden, token_width, self.hparams["dropout"], backbone=backbone)

    def configure_model(self) -> None:
        """Load the frozen backbone and make φ for it, once."""
        if self.backbone is None:
            name = self.hparams["backbone"]
            self.backbone = load_backbone(name)
            self.backbone.warns_of_cuts = False
            self.phi = self.make_phi(self.backbone.spec.width, self.backbone.token_width, name)

    @property
    def frozen(self) -> Backbone:
        """The backbone, once `configure_model` has loaded it."""
        assert self.backbone is not None, "configure_model has not run"
        return self.backbone

    @property
    def mapping(self) -> Phi:
        """φ, once `configure_model` has made it."""
        assert self.phi is not None, "configure_model has not run"
        return self.phi

    def image_features(self, batch: Mapping[str, Any]) -> Tensor:
        """Un-normalised image features [B, D] of a batch, which carries them, or pixels."""
        if "features" in batch:
            features: Tensor = batch["features"]
            return features
        with torch.no_grad():
            return self.frozen.encode_images(batch["pixels"])

    def configure_optimizers(self) -> Any:
        """The optimizer over φ alone."""
        optimizer = self.optimizer(self.mapping.parameters())
        if self.warmup is None:
            return optimizer
        return by_step(self.trainer, optimizer, self.warmup)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the frozen backbone out of the checkpoint: its name brings it back."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {key: value for key, value in state.items() if key.startswith("phi.")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Complete the checkpoint's state with the backbone as it was loaded."""
        own = {key: value for key, value in self.state_dict().items() if not key.startswith("phi.")}
        checkpoint["state_dict"] = {**own, **checkpoint["state_dict"]}

    def on_train_end(self) -> None:
        """Write φ, from the first process, and count the texts that were cut."""
        self.frozen.warn_of_cuts()
        if writes_results(self.trainer):
            path = Path(self.trainer.default_root_dir) / "phi.safetensors"
            save_phi(self.mapping, path)
            print(f"φ written to {path}")
