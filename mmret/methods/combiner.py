"""GeneCIS's combiner: a head over image and text features, trained on mined triplets (arXiv 2306.07969)."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from mmret.backbones import load_backbone
from mmret.backbones.attention import training_attention
from mmret.backbones.base import Backbone
from mmret.backbones.openclip import OpenClipBackbone
from mmret.backbones.pretraining import save_backbone, trainable_backbone
from mmret.composition.combiner import (
    DROPOUT,
    HIDDEN_WIDTH,
    PROJECTION_WIDTH,
    CombinerNetwork,
    save_combiner,
)
from mmret.losses import contrastive
from mmret.methods.gathering import gather_with_gradient, writes_results


class Combiner(LightningModule):
    """Trains the combiner so that reference image and condition give the target image, among a batch's targets.

    Batches are `TripletBatch` (`mmret.data.mined_datamodule`). The head is written to `<root>/combiner.safetensors`
    after training, and a tuned backbone to `<root>/backbone`, a folder that can be named wherever a backbone can.

    Args:
        backbone: Name of the backbone.
        optimizer: Over all that is trained; GeneCIS's is AdamW with learning rate 1e-6 and no weight decay.
        projection_width, hidden_width: Of the head; GeneCIS's are 2560 and 5120.
        dropout: Of the head.
        scale: Factor on cosine similarities, 100 in GeneCIS.
        tune_backbone: Train both towers too, as GeneCIS does; otherwise the head alone is trained.

    Logs `train/loss`, `val/loss` and `val/recall@1` (of the target among its validation batch's).
    """

    def __init__(
        self,
        backbone: str,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        projection_width: int = PROJECTION_WIDTH,
        hidden_width: int = HIDDEN_WIDTH,
        dropout: float = DROPOUT,
        scale: float = 100.0,
        tune_backbone: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["optimizer"])
        self.optimizer = optimizer
        self.backbone: Backbone | None = None
        self.network: CombinerNetwork | None = None

    def configure_model(self) -> None:
        """Load the backbone and make the head for it, once."""
        if self.backbone is not None:
            return
        name: str = self.hparams["backbone"]
        tuned = self.hparams["tune_backbone"]
        self.backbone = trainable_backbone(name) if tuned else load_backbone(name)
        self.backbone.warns_of_cuts = False
        sizes = (self.hparams[key] for key in ("projection_width", "hidden_width", "dropout"))
        # A tuned backbone is another one, whose name is not known yet.
        self.network = CombinerNetwork(self.backbone.spec.width, *sizes, backbone=None if tuned else name)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The loss of one batch, targets from all devices."""
        with training_attention(self.device):
            queries, targets = self._features(batch)
        queries, targets = gather_with_gradient(self, queries), gather_with_gradient(self, targets)
        loss = contrastive(queries, targets, self.hparams["scale"])
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Loss, and how often the target is the first of its batch."""
        queries, targets = self._features(batch)
        found = (queries @ targets.T).argmax(dim=1) == torch.arange(len(queries), device=queries.device)
        loss = contrastive(queries, targets, self.hparams["scale"])
        values = {"val/loss": loss, "val/recall@1": found.float().mean()}
        self.log_dict(values, prog_bar=True, sync_dist=True, batch_size=len(queries))

    def configure_optimizers(self) -> Any:
        """The optimizer over the head, and over the backbone if it is tuned."""
        return self.optimizer([parameter for parameter in self.parameters() if parameter.requires_grad])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave a frozen backbone out of the checkpoint: its name brings it back."""
        if not self.hparams["tune_backbone"]:
            state = checkpoint["state_dict"]
            kept = {key: value for key, value in state.items() if not key.startswith("backbone.")}
            checkpoint["state_dict"] = kept

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Complete the checkpoint's state with the backbone as it was loaded."""
        checkpoint["state_dict"] = {**self.state_dict(), **checkpoint["state_dict"]}

    def on_train_end(self) -> None:
        """Write the head, and a tuned backbone, from the first process."""
        if not writes_results(self.trainer) or self.network is None:
            return
        root = Path(self.trainer.default_root_dir)
        if self.hparams["tune_backbone"] and isinstance(self.backbone, OpenClipBackbone):
            save_backbone(self.backbone, root / "backbone")
        save_combiner(self.network, root / "combiner.safetensors")
        print(f"combiner written to {root / 'combiner.safetensors'}")

    def _features(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """L2-normalised queries and targets, float32 [B, D] each."""
        assert self.backbone is not None and self.network is not None, "configure_model has not run"
        with torch.set_grad_enabled(self.hparams["tune_backbone"] and torch.is_grad_enabled()):
            images = self.backbone.encode_images(torch.cat([batch["reference"], batch["target"]]))
            reference, target = images.float().chunk(2)
            text = self.backbone.encode_text(self.backbone.tokenize(batch["conditions"]).to(self.device))
        return self.network(reference, text), F.normalize(target, dim=-1)
