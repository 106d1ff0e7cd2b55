"""SEARLE: φ distilled from pseudo-words that OTI found (Baldrati et al., arXiv 2303.15247)."""

import random
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from mmret.backbones.attention import training_attention
from mmret.inversion import ConceptBook, ConceptPhrases
from mmret.inversion.concepts import phrase_prompt
from mmret.losses import nt_xent
from mmret.methods.gathering import gather_with_gradient
from mmret.methods.phi_training import PhiTraining


class SEARLE(PhiTraining):
    """Trains φ so that φ(image) is the word that OTI found for the image, and stands well in phrases.

    Batches are `{"features": float32 [B, D] un-normalised, "words": float32 [B, T]}`, as
    `InvertedImagesDataModule` has them. The loss is λ_distil times the contrastive distillation plus λ_gpt times
    the mean of 1 − cos between a phrase about one of the image's concepts and the same with the word in its place.

    Args:
        backbone: Name of the backbone, frozen.
        phrases: Concept → phrases: `miniature`, or a JSON file (`mmret phrases` writes one).
        optimizer: Over φ's parameters; the official code's is AdamW with learning rate 1e-4, weight decay .01.
        hidden_width: Of φ; None: four times the backbone's width, as published.
        dropout: Of φ.
        lambda_distil: Weight of the distillation.
        lambda_gpt: Weight of the phrases: .75 in the paper (the code's default is .25); 0: no phrases are read.
        temperature: Of the distillation.
        concepts: Nearest concepts of an image that phrases are drawn from: 150 in the paper.
        seed: Of the draws.

    Logs `train/loss`, `train/distil`, `train/phrases`, `val/loss` and `val/cosine` (φ's word with OTI's).
    """

    def __init__(
        self,
        backbone: str,
        phrases: str = "miniature",
        optimizer: OptimizerCallable = torch.optim.AdamW,
        hidden_width: int | None = None,
        dropout: float = 0.5,
        lambda_distil: float = 1.0,
        lambda_gpt: float = 0.75,
        temperature: float = 0.25,
        concepts: int = 150,
        seed: int = 0,
    ) -> None:
        super().__init__(optimizer, warmup_steps=None)
        self.save_hyperparameters(ignore=["optimizer"])
        self.book: ConceptBook | None = None
        self.rng = random.Random(seed)

    def on_fit_start(self) -> None:
        """Encode the concepts, once the backbone is on its device."""
        if self.hparams["lambda_gpt"] and self.book is None:
            self.book = ConceptBook(self.frozen, ConceptPhrases.read(self.hparams["phrases"]))

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """The loss of one batch; words of all devices are one another's negatives."""
        words = self.mapping(batch["features"])
        distil, phrases = self._distil(batch["words"], words), self._phrase_loss(batch["features"], words)
        loss: Tensor = self.hparams["lambda_distil"] * distil + self.hparams["lambda_gpt"] * phrases
        self.log("train/loss", loss.detach(), prog_bar=True)
        self.log_dict({"train/distil": distil.detach(), "train/phrases": phrases.detach()})
        return loss

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """The distillation's loss, and how near φ's words come to OTI's."""
        words = self.mapping(batch["features"])
        loss = nt_xent(batch["words"], words, self.hparams["temperature"])
        values = {"val/loss": loss, "val/cosine": F.cosine_similarity(batch["words"], words).mean()}
        self.log_dict(values, prog_bar=True, sync_dist=True, batch_size=len(words))

    def _distil(self, targets: Tensor, words: Tensor) -> Tensor:
        sides = gather_with_gradient(self, targets), gather_with_gradient(self, words)
        return nt_xent(*sides, self.hparams["temperature"])

    def _phrase_loss(self, features: Tensor, words: Tensor) -> Tensor:
        """The mean of 1 − cos between a phrase with its concept, and with the image's word instead."""
        if self.book is None:
            return words.new_zeros(())
        chosen = [self.rng.choice(names) for names in self.book.nearest(features, self.hparams["concepts"])]
        pairs = [(name, self.rng.choice(self.book.phrases.phrases[name])) for name in chosen]
        with torch.no_grad():
            whole = self.frozen.encode_text(self.frozen.tokenize([phrase for _, phrase in pairs]))
        prompts = self.frozen.tokenize_prompts([phrase_prompt(*pair) for pair in pairs])
        with training_attention(self.device):
            found = self.frozen.encode_prompts(prompts, words)
        return (1 - F.cosine_similarity(found, whole)).mean()
