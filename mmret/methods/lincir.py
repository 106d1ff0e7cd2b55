"""LinCIR: φ learnt from text alone (Gu et al., arXiv 2312.01998)."""

import random
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from mmret.backbones import load_backbone
from mmret.backbones.base import Backbone
from mmret.composition.keywords import mask_keywords
from mmret.composition.phi import MappingNetwork
from mmret.composition.phi_files import save_phi
from mmret.losses import masked_reconstruction
from mmret.backbones.attention import training_attention
from mmret.methods.gathering import writes_results


class LinCIR(LightningModule):
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

    Logs `train/loss`, `val/loss` and `val/cosine` (masked against original caption).
    """

    def __init__(
        self,
        backbone: str,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        hidden_width: int | None = None,
        dropout: float = 0.5,
        noise: float | str = 1.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["optimizer"])
        self.optimizer = optimizer
        self.backbone: Backbone | None = None
        self.phi: MappingNetwork | None = None
        self.rng = random.Random(0)

    def configure_model(self) -> None:
        """Load the frozen backbone and make φ for it, once."""
        if self.backbone is not None:
            return
        self.backbone = load_backbone(self.hparams["backbone"])
        self.backbone.warns_of_cuts = False
        width = self.backbone.spec.width
        hidden = self.hparams["hidden_width"] or 4 * width
        name = self.hparams["backbone"]
        self.phi = MappingNetwork(
            width, hidden, self.backbone.token_width, self.hparams["dropout"], backbone=name
        )

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

    def configure_optimizers(self) -> Any:
        """The optimizer over φ alone."""
        assert self.phi is not None, "configure_model has not run"
        return self.optimizer(self.phi.parameters())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the frozen backbone out of the checkpoint: its name brings it back."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {key: value for key, value in state.items() if key.startswith("phi.")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Complete the checkpoint's state with the backbone as it was loaded."""
        own = {key: value for key, value in self.state_dict().items() if not key.startswith("phi.")}
        checkpoint["state_dict"] = {**own, **checkpoint["state_dict"]}

    def on_train_end(self) -> None:
        """Write φ, from the first process, and count the captions that were cut."""
        if self.backbone is not None:
            self.backbone.warn_of_cuts()
        if writes_results(self.trainer) and self.phi is not None:
            path = Path(self.trainer.default_root_dir) / "phi.safetensors"
            save_phi(self.phi, path)
            print(f"φ written to {path}")

    def _reconstruct(self, captions: list[str], noisy: bool) -> tuple[Tensor, Tensor]:
        """Un-normalised features [B, D] of the masked captions and of the captions themselves."""
        assert self.backbone is not None and self.phi is not None, "configure_model has not run"
        with torch.no_grad():
            original = self.backbone.encode_text(self.backbone.tokenize(captions))
        source = original + self._noise_like(original) if noisy else original
        prompts = self.backbone.tokenize_prompts([mask_keywords(caption, self.rng) for caption in captions])
        return self.backbone.encode_prompts(prompts, self.phi(source)), original

    def _noise_like(self, features: Tensor) -> Tensor:
        scale = features.square().mean().sqrt() if self.hparams["noise"] == "rms" else self.hparams["noise"]
        share = torch.rand(len(features), 1, device=features.device)
        return scale * share * torch.randn_like(features)
