"""φ: the networks that map an embedding to a pseudo-word, in the forms whose weights are published.

Pic2Word: Saito et al., arXiv 2302.03084. SEARLE: Baldrati et al., arXiv 2303.15247. LinCIR: Gu et al., arXiv
2312.01998, with SEARLE's network. Their files are read and written by `mmret.composition.phi_files`.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmret.errors import InputError

COMMON_WIDTHS = {
    (512, 512): "CLIP ViT-B/32 or ViT-B/16",
    (640, 640): "CLIP RN50x4",
    (768, 768): "CLIP ViT-L/14",
    (1024, 512): "CLIP RN50",
    (1024, 1024): "CLIP ViT-H/14",
    (1280, 1280): "CLIP ViT-bigG/14",
}
"""Backbones by the widths of their features and token embeddings: for messages, it decides nothing."""


class Phi(nn.Module, ABC):
    """What every φ is: embedding [B, D] → pseudo-word [B, T].

    Attributes:
        KEYS: the names of its tensors, those of the released files; the first is the weight of the layer that
            reads the embedding, the one before the last that of the layer that writes the word.
        widths: D, the hidden width, and T.
        backbone: the name of the backbone φ was made for, if known; stored with the weights.
    """

    KEYS: ClassVar[tuple[str, ...]]

    def __init__(self, input_width: int, hidden_width: int, token_width: int, backbone: str | None) -> None:
        super().__init__()
        self.widths = (input_width, hidden_width, token_width)
        self.backbone = backbone

    def forward(self, features: Tensor) -> Tensor:
        """Pseudo-words [B, T] of **un-normalised** `features` [B, D], which are taken as float32.

        Raises:
            InputError: if the features have another width.
        """
        if features.shape[-1] != self.widths[0]:
            raise InputError(f"φ {self.fits()}; these features are {features.shape[-1]} wide.")
        return self.words(features.float())

    @abstractmethod
    def words(self, features: Tensor) -> Tensor:
        """Pseudo-words [B, T] of float32 features [B, D]."""

    def infer(self, features: Tensor) -> Tensor:
        """Pseudo-words [B, T] without dropout or gradients, whatever mode φ is in; on φ's device."""
        was_training = self.training
        with torch.no_grad():
            words: Tensor = self.eval()(features.to(next(self.parameters()).device))
        self.train(was_training)
        return words

    def check_backbone(self, name: str, width: int, token_width: int) -> None:
        """Raise `InputError` unless φ fits the backbone `name`, of these widths of features and of tokens."""
        if (width, token_width) != (self.widths[0], self.widths[2]):
            raise InputError(
                f"φ {self.fits()}; {name} has features of width {width} and tokens of width {token_width}."
            )
        if self.backbone is not None and self.backbone != name:
            raise InputError(f"φ was made for {self.backbone}, not for {name}; load that backbone.")

    def fits(self) -> str:
        """Which backbones this φ fits, for messages."""
        source, _, target = self.widths
        known = COMMON_WIDTHS.get((source, target))
        such_as = f", such as {known}" if known else ""
        return f"fits backbones with features of width {source} and tokens of width {target}{such_as}"

    def describe(self) -> dict[str, str | int | None]:
        """Widths, backbone and a digest of the weights, for a record: equal digests are equal networks."""
        digest = hashlib.sha256()
        for key, tensor in sorted(self.state_dict().items()):
            digest.update(key.encode() + tensor.detach().cpu().float().contiguous().numpy().tobytes())
        source, hidden, target = self.widths
        return {
            "input_width": source,
            "hidden_width": hidden,
            "token_width": target,
            "backbone": self.backbone,
            "sha256": digest.hexdigest()[:16],
        }


class MappingNetwork(Phi):
    """SEARLE's and LinCIR's φ: three linear layers with GELU and dropout between them.

    Args:
        input_width: D, the width of the backbone's features.
        hidden_width: usually 4·D.
        token_width: T, the width of the text tower's token embeddings.
        dropout: probability of both dropout layers, .5 in both papers.
        backbone: the name of the backbone φ was made for, if known.
    """

    KEYS = tuple(f"layers.{layer}.{kind}" for layer in (0, 3, 6) for kind in ("weight", "bias"))

    def __init__(
        self,
        input_width: int,
        hidden_width: int,
        token_width: int,
        dropout: float = 0.5,
        *,
        backbone: str | None = None,
    ) -> None:
        super().__init__(input_width, hidden_width, token_width, backbone)
        # The positions 0, 3 and 6 of the linear layers are the released files' keys.
        self.layers = nn.Sequential(
            nn.Linear(input_width, hidden_width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_width, hidden_width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_width, token_width),
        )

    def words(self, features: Tensor) -> Tensor:
        """Pseudo-words [B, T] of float32 features [B, D]."""
        words: Tensor = self.layers(features)
        return words


class Pic2WordNetwork(Phi):
    """Pic2Word's φ: two blocks of a linear layer, dropout and ReLU, then a linear layer.

    Args:
        input_width: D, the width of the backbone's features.
        hidden_width: 512 in the paper, whatever the backbone.
        token_width: T, the width of the text tower's token embeddings.
        dropout: probability of both dropout layers, .1 in the official code.
        backbone: the name of the backbone φ was made for, if known.
    """

    KEYS = tuple(
        f"{layer}.{kind}" for layer in ("layers.0.0", "layers.1.0", "fc_out") for kind in ("weight", "bias")
    )

    def __init__(
        self,
        input_width: int,
        hidden_width: int,
        token_width: int,
        dropout: float = 0.1,
        *,
        backbone: str | None = None,
    ) -> None:
        super().__init__(input_width, hidden_width, token_width, backbone)
        self.layers = nn.Sequential(
            _block(input_width, hidden_width, dropout), _block(hidden_width, hidden_width, dropout)
        )
        self.fc_out = nn.Linear(hidden_width, token_width)

    def words(self, features: Tensor) -> Tensor:
        """Pseudo-words [B, T] of float32 features [B, D]."""
        words: Tensor = self.fc_out(self.layers(features))
        return words


def _block(source: int, target: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(source, target), nn.Dropout(dropout), nn.ReLU())


NETWORKS: tuple[type[Phi], ...] = (MappingNetwork, Pic2WordNetwork)
"""Every form of φ; a file's keys say which one it is."""
