"""Pic2Word: φ learnt from images without captions (Saito et al., arXiv 2302.03084)."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from mmret.backbones.attention import training_attention
from mmret.backbones.base import PromptTokens
from mmret.backbones.prompt import fill
from mmret.composition.phi import Pic2WordNetwork
from mmret.losses import symmetric_contrastive
from mmret.methods.gathering import gather_with_gradient
from mmret.methods.phi_training import PhiTraining


class Pic2Word(PhiTraining):
    """Trains φ so that "a photo of" φ(image) means the image, among all images of the batch on all devices.

    Batches are `{"features": float32 [B, D]}` (un-normalised) or `{"pixels": float32 [B, 3, H, W]}`, as
    `ImagesDataModule` has them. The loss is CLIP's, with the backbone's own scale.

    Args:
        backbone: Name of the backbone, frozen.
        optimizer: Over φ's parameters; the official code's is AdamW with learning rate 1e-4, weight decay .1.
        warmup_steps: Of linear warm-up, before a cosine; 10,000 in the official code.
        hidden_width: Of φ.
        dropout: Of φ.
        template: The prompt, with `{word}`.

    Logs `train/loss`, `val/loss` and `val/recall@1` (of the image among its validation batch's).
    """

    def __init__(
        self,
        backbone: str,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        warmup_steps: int | None = 10_000,
        hidden_width: int = 512,
        dropout: float = 0.1,
        template: str = "a photo of {word}",
    ) -> None:
        super().__init__(optimizer, warmup_steps)
        self.save_hyperparameters(ignore=["optimizer"])

    def make_phi(self, width: int, token_width: int, backbone: str) -> Pic2WordNetwork:
        """Pic2Word's own network."""
        hidden, dropout = self.hparams["hidden_width"], self.hparams["dropout"]
        return Pic2WordNetwork(width, hidden, token_width, dropout, backbone=backbone)

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """The loss of one batch, negatives from all devices."""
        images, texts = (gather_with_gradient(self, side) for side in self._sides(batch))
        loss = symmetric_contrastive(images, texts, self.frozen.logit_scale)
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Loss and word → image recall within the batch."""
        images, texts = self._sides(batch)
        loss = symmetric_contrastive(images, texts, self.frozen.logit_scale)
        found = (texts @ images.T).argmax(dim=1) == torch.arange(len(images), device=images.device)
        values = {"val/loss": loss, "val/recall@1": found.float().mean()}
        self.log_dict(values, prog_bar=True, sync_dist=True, batch_size=len(images))

    def _sides(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Normalised features [B, D] of the images and of the prompts with their words."""
        features = self.image_features(batch)
        ids, word_mask = self.frozen.tokenize_prompts([fill(self.hparams["template"])])
        prompts = PromptTokens(ids.expand(len(features), -1), word_mask.expand(len(features), -1))
        with training_attention(self.device):
            texts = self.frozen.encode_prompts(prompts, self.mapping(features))
        return F.normalize(features.float(), dim=-1), F.normalize(texts, dim=-1)
