"""A backbone's text tower on its own: copied to be trained, stored, and put beside the images of the backbone.

What trains a query's text encoder (RTD) changes nothing about the images: their vectors, and all stores of them, stay
as they are. So a tuned text encoder is a file beside a backbone, and never a backbone of its own.
"""

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from mmret.atomic import atomic_write
from mmret.backbones.base import Backbone
from mmret.backbones.openclip import OpenClipBackbone
from mmret.errors import InputError

#: Parts of an open_clip model that no text feature passes through.
_OTHER_PARTS = ("visual", "text_decoder")
_SCALES = ("logit_scale", "logit_bias")
_MADE_FOR = ("architecture", "revision")


def own_text_tower(backbone: Backbone) -> OpenClipBackbone:
    """A backbone that has a copy of this one's text tower and no image tower, frozen, on the same device.

    It has the same spec: what was made for the backbone (φ, pseudo-words) fits it too. `encode_images` fails.

    Raises:
        InputError: the backbone encodes images only.
    """
    if not isinstance(backbone, OpenClipBackbone):
        raise InputError(f"backbone {backbone.spec.name} has no text tower to copy; name one of open_clip.")
    parts = {name: part for name, part in backbone.model.named_children() if name in _OTHER_PARTS}
    try:
        for name in parts:
            setattr(backbone.model, name, None)
        copied = deepcopy(backbone)
    finally:
        for name, part in parts.items():
            setattr(backbone.model, name, part)
    return copied.freeze()


def trainable_text_tower(backbone: Backbone, checkpoint_gradients: bool = False) -> OpenClipBackbone:
    """The same, float32 and ready to be trained: every parameter of the tower, its projection among them.

    With `checkpoint_gradients` activations are computed again in the backward pass, which saves memory for time.
    """
    tower = own_text_tower(backbone).float().unfreeze()
    for name in _SCALES:
        scale = getattr(tower.model, name, None)
        if isinstance(scale, nn.Parameter):
            scale.requires_grad_(False)
    if checkpoint_gradients:
        _checkpoint_gradients(tower.model)
    return tower


def _checkpoint_gradients(model: Any) -> None:
    if getattr(model, "text", None) is not None:
        model.text.set_grad_checkpointing(True)
    else:  # CLIP's own method would ask the image tower too
        model.transformer.grad_checkpointing = True


def text_tensors(tower: OpenClipBackbone) -> dict[str, Tensor]:
    """The tensors that make the tower's text features, by their names in the model."""
    state: Mapping[str, Tensor] = tower.model.state_dict()
    others = tuple(f"{part}." for part in _OTHER_PARTS)
    return {key: value for key, value in state.items() if key not in _SCALES and not key.startswith(others)}


def save_text_encoder(tower: OpenClipBackbone, path: str | Path, facts: Mapping[str, Any]) -> None:
    """Write a tuned text tower as safetensors, whole or not at all, with its backbone's marks and the `facts`.

    Raises:
        InputError: the file cannot be written.
    """
    # Copies: some towers tie two names to one tensor, which safetensors refuses.
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in text_tensors(tower).items()}
    spec = tower.spec
    marks = {
        "backbone": spec.name,
        "architecture": spec.architecture,
        "revision": spec.revision,
        "facts": json.dumps(dict(facts), sort_keys=True),
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(Path(path)) as handle:
        handle.write(save(tensors, metadata=marks))


def read_text_encoder(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str], dict[str, Any]]:
    """The tensors of a file that `save_text_encoder` wrote, its backbone's marks, and the facts.

    Raises:
        InputError: the file is missing, or another one. Nothing in it is executed.
    """
    source = Path(path)
    if not source.is_file():
        raise InputError(f"there is no text encoder at {source}; train one with `mmret fit` (configs/rtd).")
    try:
        with safe_open(source, framework="pt") as file:
            keys, metadata = file.keys(), file.metadata() or {}
            tensors = dict(zip(keys, map(file.get_tensor, keys), strict=True))
        marks = {key: metadata[key] for key in ("backbone", *_MADE_FOR)}
        return tensors, marks, json.loads(metadata["facts"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{source} holds no tuned text encoder ({error}); give a file of RTD's.") from error


def load_text_encoder(backbone: Backbone, path: str | Path) -> OpenClipBackbone:
    """The tuned text tower of a file, for queries over the images of `backbone`; frozen, on its device.

    Raises:
        InputError: the file is no text encoder, or was tuned from other weights than the backbone's.
    """
    tensors, marks, _ = read_text_encoder(path)
    own = {"architecture": backbone.spec.architecture, "revision": backbone.spec.revision}
    if any(marks[key] != own[key] for key in _MADE_FOR):
        raise InputError(
            f"the text encoder {path} was tuned from {marks['backbone']} ({marks['architecture']}, "
            f"{marks['revision'][:24]}), not from {backbone.spec.name}; load that backbone."
        )
    tower = own_text_tower(backbone)
    wanted = text_tensors(tower)
    if wanted.keys() != tensors.keys() or any(wanted[key].shape != tensors[key].shape for key in wanted):
        odd = sorted(wanted.keys() ^ tensors.keys()) or sorted(wanted)
        raise InputError(f"the text encoder {path} does not fit {backbone.spec.name}: {odd[0]} differs.")
    with torch.no_grad():
        for key, value in wanted.items():
            value.copy_(tensors[key])
    return tower
