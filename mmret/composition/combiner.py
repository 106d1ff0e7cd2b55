"""The combiner: a network that makes one vector of image and text features (CLIP4Cir's head, as GeneCIS trains it).

Baldrati et al., CLIP4Cir (arXiv 2308.11485); Vaze et al., GeneCIS (arXiv 2306.07969). GeneCIS's released code takes
the projections 2560 and the hidden layers 5120 wide, whatever the backbone (4 and 8 times the 640 of RN50x4), dropout
.5, and un-normalised features. The files' keys are those of that code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from mmret.atomic import atomic_write
from mmret.composition.encoding import TextBackbone, average_raw, encode_texts
from mmret.composition.features import QueryBatch, captions_of
from mmret.errors import InputError

PROJECTION_WIDTH = 2560
HIDDEN_WIDTH = 5120
DROPOUT = 0.5


class CombinerNetwork(nn.Module):
    """Image and text features to one query vector.

    query = norm(output + s·text + (1 − s)·image): a residual path through two projections, and a share s in (0, 1) that
    the network chooses for each query (the dynamic scalar).

    Args:
        width: D, of the backbone's features.
        projection_width: Of each of the two projections.
        hidden_width: Of the layer behind them, and of the scalar's.
        dropout: Probability, at all four places.
        backbone: Name of the backbone it was trained with, if known; stored with the weights.
    """

    def __init__(
        self,
        width: int,
        projection_width: int = PROJECTION_WIDTH,
        hidden_width: int = HIDDEN_WIDTH,
        dropout: float = DROPOUT,
        *,
        backbone: str | None = None,
    ) -> None:
        super().__init__()
        self.width, self.backbone = width, backbone
        self.text_projection_layer = nn.Linear(width, projection_width)
        self.image_projection_layer = nn.Linear(width, projection_width)
        self.combiner_layer = nn.Linear(2 * projection_width, hidden_width)
        self.output_layer = nn.Linear(hidden_width, width)
        self.dropout = nn.Dropout(dropout)
        # The positions 0 and 3 of the linear layers are the released files' keys.
        self.dynamic_scalar = nn.Sequential(
            nn.Linear(2 * projection_width, hidden_width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_width, 1),
            nn.Sigmoid(),
        )

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """L2-normalised queries [B, D] of **un-normalised** features [B, D] of the image and of the text."""
        image, text = image.float(), text.float()
        projected = [
            self.dropout(F.relu(self.text_projection_layer(text))),
            self.dropout(F.relu(self.image_projection_layer(image))),
        ]
        joined = torch.cat(projected, dim=-1)
        share = self.dynamic_scalar(joined)
        output = self.output_layer(self.dropout(F.relu(self.combiner_layer(joined))))
        return F.normalize(output + share * text + (1 - share) * image, dim=-1)

    def check_backbone(self, name: str, width: int) -> None:
        """Raise `InputError` unless the network fits the backbone `name` of this width."""
        if width != self.width or self.backbone not in (None, name):
            raise InputError(
                f"the combiner was made for {self.backbone or 'a backbone'} with features of width {self.width}, "
                f"not for {name} of width {width}; load that backbone."
            )

    def describe(self) -> dict[str, Any]:
        """Widths, backbone and a digest of the weights, for a record."""
        digest = hashlib.sha256()
        for key, tensor in sorted(self.state_dict().items()):
            digest.update(key.encode() + tensor.detach().cpu().float().contiguous().numpy().tobytes())
        hidden, projections = self.combiner_layer.weight.shape
        widths = {"width": self.width, "projection_width": projections // 2, "hidden_width": hidden}
        return {**widths, "backbone": self.backbone, "sha256": digest.hexdigest()[:16]}


def save_combiner(network: CombinerNetwork, path: str | Path) -> None:
    """Write the weights and the backbone's name as safetensors, whole or not at all; raises `InputError`."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(Path(path)) as handle:
        handle.write(save(tensors, metadata={"backbone": network.backbone or ""}))


def load_combiner(path: str | Path) -> CombinerNetwork:
    """Read a combiner, in evaluation mode, float32, on the CPU; nothing in the file is executed.

    Args:
        path: What `save_combiner` wrote, or a pickle of tensors with the official keys, as they are or under
            "combiner" (GeneCIS's `combiner_best.pt` and `checkpoint.pt`), "module." before them or not.

    Raises:
        InputError: the file is missing or unreadable, or holds another network.
    """
    source = Path(path)
    if not source.is_file():
        raise InputError(f"no combiner at {source}; give the path of a .safetensors or .pt file.")
    tensors, backbone = _read(source)
    tensors = {key.removeprefix("module."): value.float() for key, value in tensors.items()}
    try:
        hidden, projections = tensors["combiner_layer.weight"].shape
        width = len(tensors["output_layer.bias"])
        network = CombinerNetwork(width, projections // 2, hidden, backbone=backbone)
        network.load_state_dict(tensors)
    except (KeyError, RuntimeError, ValueError) as error:
        raise InputError(f"{source} holds no combiner ({' '.join(str(error).split())[:300]}).") from error
    return network.eval()


def _read(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """Tensors and backbone name of a file."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                keys, metadata = file.keys(), file.metadata() or {}
                return dict(zip(keys, map(file.get_tensor, keys), strict=True)), metadata.get(
                    "backbone"
                ) or None
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"{path} is no file of tensors only, and no other is read here.") from error
    state = content.get("combiner", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path} holds no tensors of a combiner.")
    return dict(state), None


class CombinedFeatures:
    """GeneCIS's combiner: a trained network joins reference image and text to one vector.

    Args:
        combiner: The network, or the path of its file.

    Raises:
        InputError: the file is no combiner.
    """

    name: ClassVar[str] = "combiner"
    takes_pdv: ClassVar[bool] = False

    def __init__(self, combiner: CombinerNetwork | str | Path) -> None:
        self.network = combiner if isinstance(combiner, CombinerNetwork) else load_combiner(combiner)

    @torch.no_grad()
    def __call__(self, backbone: TextBackbone, batch: QueryBatch) -> Tensor:
        """The queries [B, D], L2-normalised; several texts of a query are averaged un-normalised.

        Raises:
            InputError: the network does not fit the backbone, or a query has no text.
        """
        self.network.check_backbone(backbone.spec.name, backbone.spec.width)
        texts = average_raw(encode_texts(backbone, captions_of(batch)))
        was_training = self.network.training
        queries: Tensor = self.network.eval()(batch.reference_image.to(texts.device), texts)
        self.network.train(was_training)
        return queries

    def describe(self) -> dict[str, Any]:
        """Name, and the network's widths, backbone and digest."""
        return {"name": self.name, "combiner": self.network.describe()}
