"""CLIP's contrastive pretraining of a backbone on captioned images."""

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from mmret.backbones.attention import training_attention
from mmret.backbones.openclip import OpenClipBackbone
from mmret.backbones.pretraining import save_backbone, trainable_backbone
from mmret.errors import InputError
from mmret.losses import symmetric_contrastive
from mmret.methods.gathering import gather_with_gradient, writes_results
from mmret.methods.schedules import by_step, decay_groups

#: CLIP clips its learnt scale at 100 (arXiv 2103.00020, section 2.5).
MAX_SCALE = 100.0


class ContrastivePretraining(LightningModule):
    """Trains both towers of a backbone by CLIP's symmetric contrastive objective, negatives gathered across devices.

    Batches are `{"pixels": float32 [B, 3, H, W], "captions": list of B strings}`. After training the backbone is
    written as a folder that `load_backbone` reads (`<root>/backbone`, half precision), so it can be named in any
    other config.

    Args:
        backbone: Name of the backbone to train.
        from_scratch: Start from random weights of the same architecture instead of the named ones.
        optimizer: Given the two parameter groups (with and without weight decay), as in CLIP.
        warmup_steps: Steps of linear warm-up, before a cosine that ends at zero with the training.
        initial_scale: The factor on cosine similarities to begin with, by default the backbone's. A trained one is
            large: on other images than it was trained on, it makes confident mistakes of all first batches.

    Logs `train/loss`, `train/scale`, `val/loss` and `val/recall@1` (of the caption among its validation batch's).
    """

    def __init__(
        self,
        backbone: str,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        from_scratch: bool = False,
        warmup_steps: int = 100,
        initial_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["optimizer"])
        self.optimizer = optimizer
        self.backbone: OpenClipBackbone | None = None

    def configure_model(self) -> None:
        """Load the backbone, once, ready to be trained."""
        if self.backbone is None:
            backbone = trainable_backbone(self.hparams["backbone"], self.hparams["from_scratch"])
            # Convolutions are faster so, on CPUs by a third; other layers keep their layout.
            self.backbone = backbone.to(memory_format=torch.channels_last)
            self.backbone.warns_of_cuts = False
            self._set_scale(self.hparams["initial_scale"])

    def _set_scale(self, scale: float | None) -> None:
        if scale is None:
            return
        if not 1 <= scale <= MAX_SCALE:
            raise InputError(
                f"initial_scale is {scale:g}; give a factor from 1 to {MAX_SCALE:g} (CLIP: 14.3)."
            )
        self.model.learnt_scale.data.fill_(math.log(scale))

    @property
    def model(self) -> OpenClipBackbone:
        """The backbone, once `configure_model` has loaded it."""
        assert self.backbone is not None, "configure_model has not run"
        return self.backbone

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The loss of one batch, negatives from all devices."""
        images, texts = self._features(batch)
        scale = self.model.learnt_scale.exp()
        images, texts = gather_with_gradient(self, images), gather_with_gradient(self, texts)
        loss = symmetric_contrastive(images, texts, scale)
        self.log_dict({"train/loss": loss.detach(), "train/scale": scale.detach()}, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Loss and image → caption recall within the batch."""
        images, texts = self._features(batch)
        loss = symmetric_contrastive(images, texts, self.model.learnt_scale.exp())
        found = (images @ texts.T).argmax(dim=1) == torch.arange(len(images), device=images.device)
        values = {"val/loss": loss, "val/recall@1": found.float().mean()}
        self.log_dict(values, prog_bar=True, sync_dist=True, batch_size=len(images))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keep the scale below CLIP's bound, once the optimizer has moved it."""
        with torch.no_grad():
            self.model.learnt_scale.clamp_(0, math.log(MAX_SCALE))

    def configure_optimizers(self) -> Any:
        """The optimizer over two parameter groups, with warm-up and cosine by step."""
        optimizer = self.optimizer(decay_groups(self.parameters()))
        return by_step(self.trainer, optimizer, self.hparams["warmup_steps"])

    def on_train_end(self) -> None:
        """Write the backbone as a folder, from the first process, and count the captions that were cut."""
        self.model.warn_of_cuts()
        if writes_results(self.trainer):
            folder = Path(self.trainer.default_root_dir) / "backbone"
            save_backbone(self.model, folder)
            print(f"backbone written to {folder}")

    def _features(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Normalised image and text features, float32 [B, D] each."""
        tokens = self.model.tokenize(batch["captions"]).to(self.device)
        pixels = batch["pixels"].contiguous(memory_format=torch.channels_last)
        with training_attention(self.device):
            images, texts = self.model.encode_images(pixels), self.model.encode_text(tokens)
        return F.normalize(images.float(), dim=-1), F.normalize(texts.float(), dim=-1)
