"""φ: the network that maps an embedding to a pseudo-word, in SEARLE's and LinCIR's form, and its files.

SEARLE: Baldrati et al., arXiv 2303.15247. LinCIR: Gu et al., arXiv 2312.01998. Both release their weights
under the keys `layers.{0,3,6}.{weight,bias}`, in a pickle that maps "Phi" to the tensors; those files load.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from mmret.atomic import atomic_write
from mmret.errors import InputError

KEYS = tuple(f"layers.{layer}.{kind}" for layer in (0, 3, 6) for kind in ("weight", "bias"))
"""The tensors of a φ file."""

COMMON_WIDTHS = {
    512: "CLIP ViT-B/32 or ViT-B/16",
    768: "CLIP ViT-L/14",
    1024: "CLIP ViT-H/14",
    1280: "CLIP ViT-bigG/14",
}
"""Backbones whose features and token embeddings both have this width: for messages, it decides nothing."""


class MappingNetwork(nn.Module):
    """φ: three linear layers with GELU and dropout between them; embedding [B, D] → pseudo-word [B, T].

    Args:
        input_width: D, the width of the backbone's features.
        hidden_width: usually 4·D.
        token_width: T, the width of the text tower's token embeddings.
        dropout: probability of both dropout layers, .5 in both papers.
        backbone: the name of the backbone φ was made for, if known; stored with the weights.
    """

    def __init__(
        self,
        input_width: int,
        hidden_width: int,
        token_width: int,
        dropout: float = 0.5,
        *,
        backbone: str | None = None,
    ) -> None:
        super().__init__()
        self.widths = (input_width, hidden_width, token_width)
        self.backbone = backbone
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

    def forward(self, features: Tensor) -> Tensor:
        """Pseudo-words [B, T] of **un-normalised** `features` [B, D], which are taken as float32.

        Raises:
            InputError: if the features have another width.
        """
        if features.shape[-1] != self.widths[0]:
            raise InputError(f"φ {self.fits()}; these features are {features.shape[-1]} wide.")
        words: Tensor = self.layers(features.float())
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
        known = f", such as {COMMON_WIDTHS[source]}" if source == target and source in COMMON_WIDTHS else ""
        return f"fits backbones with features of width {source} and tokens of width {target}{known}"

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


def save_phi(phi: MappingNetwork, path: str | Path) -> None:
    """Write φ's weights and its backbone's name to `path`, whole or not at all.

    A name that ends in `.pt` or `.pth` gets the pickle that SEARLE's and LinCIR's code reads
    (`{"Phi": tensors, "backbone": name}`), any other a safetensors file with the name in its metadata.

    Raises:
        InputError: if the file cannot be written (full disk, missing permission); what stood there stays.
    """
    target = Path(path)
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in phi.state_dict().items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as file:
        file.write(_serialised(tensors, phi.backbone, as_pickle=target.suffix in {".pt", ".pth"}))


def _serialised(tensors: dict[str, Tensor], backbone: str | None, *, as_pickle: bool) -> bytes:
    """The bytes of a φ file. Made in memory: on a full disk, both libraries' own writing fails in riddles."""
    if not as_pickle:
        return save(tensors, metadata={"backbone": backbone or ""})
    buffer = BytesIO()
    torch.save({"Phi": tensors, "backbone": backbone}, buffer)
    return buffer.getvalue()


def load_phi(path: str | Path, *, backbone: str | None = None) -> MappingNetwork:
    """Read φ from a safetensors file or a tensor-only pickle, in evaluation mode, float32, on the CPU.

    Args:
        path: what `save_phi` wrote, or a file released by SEARLE or LinCIR (`{"Phi": tensors, …}`). Nothing
            in the file is executed.
        backbone: the name of the backbone it is to be used with; compared with the one in the file, where
            there is one.

    Raises:
        InputError: if the file is missing or unreadable, holds other things than tensors or another layout,
            or was made for another backbone.
    """
    source = Path(path)
    if not source.is_file():
        raise InputError(f"no φ at {source}; give the path of a .safetensors or .pt file.")
    tensors, made_for = _read_safetensors(source) if source.suffix == ".safetensors" else _read_pickle(source)
    made_for = made_for or None
    if backbone is not None and made_for is not None and made_for != backbone:
        raise InputError(f"φ in {source} was made for {made_for}, not for {backbone}; load that backbone.")
    return _build(source, tensors, made_for or backbone)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """Tensors and backbone name of a safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            keys, metadata = file.keys(), file.metadata() or {}
            return dict(zip(keys, map(file.get_tensor, keys), strict=True)), metadata.get("backbone")
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file ({error}); fetch or save it again.") from error


def _read_pickle(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """Tensors and backbone name of a `{"Phi": tensors}` pickle, read without executing anything in it."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise InputError(
            f"{path} is not a pickle of tensors only, and no other pickle is read here; save φ with save_phi."
        ) from error
    phi = content.get("Phi") if isinstance(content, Mapping) else None
    if not isinstance(phi, Mapping):
        raise InputError(f'{path} holds no "Phi"; give a φ file of SEARLE, of LinCIR or of save_phi.')
    name = content.get("backbone")
    return dict(phi), name if isinstance(name, str) else None


def _build(path: Path, tensors: Mapping[str, Tensor], backbone: str | None) -> MappingNetwork:
    """The network whose widths the tensors have; a "module." before the keys (DataParallel) is dropped."""
    tensors = {key.removeprefix("module."): tensor for key, tensor in tensors.items()}
    if set(tensors) != set(KEYS) or tensors[KEYS[0]].ndim != 2 or tensors[KEYS[4]].ndim != 2:
        raise InputError(f"φ in {path} has the tensors {sorted(tensors)[:8]}; needed are {', '.join(KEYS)}.")
    hidden, source = tensors[KEYS[0]].shape
    phi = MappingNetwork(source, hidden, tensors[KEYS[4]].shape[0], backbone=backbone)
    try:
        phi.load_state_dict({key: tensor.float() for key, tensor in tensors.items()})
    except RuntimeError as error:
        raise InputError(f"the tensors of φ in {path} do not fit together: {error}.") from error
    return phi.eval()
