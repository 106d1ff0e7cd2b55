"""LinCIR: φ learnt from text alone (Gu et al., arXiv 2312.01998)."""

import random
from functools import cached_property
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from mmret.backbones.attention import training_attention
from mmret.composition.keywords import Tagger, mask_keywords, tagger
from mmret.losses import masked_reconstruction
from mmret.methods.phi_training import PhiTraining


class LinCIR(PhiTraining):
    """Trains φ so that a caption whose keywords are replaced by φ(its embedding) still means the same.

    Batches are `{"captions": list of B strings}`. The text embedding that φ reads is **un-normalised** and noisy,
    t + u·ε with u ~ U(0, 1) per caption and ε ~ N(0, noise² I), which carries φ over to image embeddings. The
    backbone is frozen. φ is written to `<root>/phi.safetensors` after training.

    Args:
        backbone: Name of the backbone, frozen.
        optimizer: Over φ's parameters; the paper's is AdamW with learning rate 1e-4, weight decay .01, constant.
        hidden_width: Of φ; None: four times the backbone's width, as published.
        dropout: Of φ.
        noise: Standard deviation of ε. The published 1.0 suits CLIP's embeddings, whose norm is about 10; `"rms"`
            takes the root mean square of the batch's embedding components instead, whatever the norm.
        keywords: What finds the keywords: `rules`, `spacy:MODEL`, or `auto` (see `mmret.composition.keywords.tagger`).

    Logs `train/loss`, `val/loss` and `val/cosine` (masked against original caption).
    """

    def __init__(
        self,
        backbone: str,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        hidden_width: int | None = None,
        dropout: float = 0.5,
        noise: float | str = 1.0,
        keywords: str = "rules",
    ) -> None:
        super().__init__(optimizer, warmup_steps=None)
        self.save_hyperparameters(ignore=["optimizer"])
        self.rng = random.Random(0)

    @cached_property
    def keywords(self) -> Tagger:
        """What finds the keywords, loaded when first needed."""
        return tagger(self.hparams["keywords"])

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The self-masking loss of one batch."""
        with training_attention(self.device):
            masked, original = self._reconstruct(batch["captions"], noisy=True)
        loss = masked_reconstruction(masked, original)
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Loss and cosine without noise."""
        masked, original = self._reconstruct(batch["captions"], noisy=False)
        cosine = torch.cosine_similarity(masked, original).mean()
        values = {"val/loss": masked_reconstruction(masked, original), "val/cosine": cosine}
        self.log_dict(values, prog_bar=True, sync_dist=True, batch_size=len(masked))

    def _reconstruct(self, captions: list[str], noisy: bool) -> tuple[Tensor, Tensor]:
        """Un-normalised features [B, D] of the masked captions and of the captions themselves."""
        with torch.no_grad():
            original = self.frozen.encode_text(self.frozen.tokenize(captions))
        source = original + self._noise_like(original) if noisy else original
        spans = self.keywords(captions)
        masked = [mask_keywords(text, found, self.rng) for text, found in zip(captions, spans, strict=True)]
        return self.frozen.encode_prompts(
            self.frozen.tokenize_prompts(masked), self.mapping(source)
        ), original

    def _noise_like(self, features: Tensor) -> Tensor:
        scale = features.square().mean().sqrt() if self.hparams["noise"] == "rms" else self.hparams["noise"]
        share = torch.rand(len(features), 1, device=features.device)
        return scale * share * torch.randn_like(features)
