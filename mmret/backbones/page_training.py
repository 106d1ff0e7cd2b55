"""Backbones of any kind as page encoders that learn: loaded for it, and written in the layout they came in."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mmret.backbones.adapters import AdapterSettings, adapter_parameters, fill_adapter, save_adapter
from mmret.backbones.base import Backbone
from mmret.backbones.openclip import OpenClipBackbone
from mmret.backbones.precision import torch_dtype
from mmret.backbones.pretraining import save_backbone, trainable_backbone
from mmret.backbones.registry import load_backbone, resolve
from mmret.backbones.vlm_specs import is_vlm_name
from mmret.errors import InputError

if TYPE_CHECKING:
    from mmret.backbones.vlm_pages import VlmBackbone

_SCALES = ("logit_scale", "logit_bias")


def adapter_settings(given: Mapping[str, Any] | None) -> AdapterSettings | None:
    """A module's option as settings; raises `InputError` for a name that is none of them."""
    if given is None:
        return None
    known = [field.name for field in fields(AdapterSettings)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InputError(f"adapter has the unknown {unknown[0]}; it takes {', '.join(known)}.")
    return AdapterSettings(**given)


def page_encoder_to_train(
    name: str,
    *,
    from_scratch: bool = False,
    preprocess: str | None = None,
    adapter: AdapterSettings | None = None,
    frozen_precision: str = "fp32",
    checkpoint_gradients: bool = False,
) -> Backbone:
    """Return the backbone called `name`, awake, with gradients for what learns: float32.

    Args:
        name: Of open_clip's or of a vision-language model.
        from_scratch: Random weights of the same architecture (open_clip's).
        preprocess: Another preprocessing than its own; it is part of the backbone that is written.
        adapter: A new LoRA or DoRA in a vision-language model, which alone learns. Where the name has an adapter
            (`?adapter=FOLDER`) that one goes on learning, alone as well, and a new one is refused.
        frozen_precision: Number format of the weights beside an adapter.
        checkpoint_gradients: Compute activations again in the backward pass.

    Raises:
        InputError: a backbone that cannot be trained so, or that could not be written afterwards.
    """
    if not is_vlm_name(name):
        if adapter is not None:
            raise InputError(f"{name} takes no adapter: adapters are for vision-language models.")
        backbone: Backbone = _open_clip(name, from_scratch, preprocess)
    else:
        if from_scratch:
            raise InputError(f"{name} is not trained from scratch: only open_clip's architectures are.")
        backbone = _vision_language(name, preprocess, adapter, frozen_precision)
    if checkpoint_gradients:
        _checkpoint_gradients(backbone)
    return backbone


def is_adapted(backbone: Backbone) -> bool:
    """Whether a backbone has an adapter, which then is all that learns."""
    return bool(adapter_parameters(backbone))


def save_trained(backbone: Backbone, root: Path) -> Path:
    """Write `<root>/backbone`, or `<root>/adapter` where there is one, and return that folder.

    Raises:
        InputError: it cannot be written.
    """
    if is_adapted(backbone):
        save_adapter(_inner(backbone), root / "adapter")
        return root / "adapter"
    if isinstance(backbone, OpenClipBackbone):
        save_backbone(backbone, root / "backbone")
        return root / "backbone"
    from mmret.backbones.vlm_pages import VlmBackbone
    from mmret.backbones.vlm_saving import save_page_encoder

    assert isinstance(backbone, VlmBackbone)
    save_page_encoder(backbone, root / "backbone")
    return root / "backbone"


def _open_clip(name: str, from_scratch: bool, preprocess: str | None) -> OpenClipBackbone:
    """Both towers; the scale of open_clip's own loss does not learn: the temperature is a setting here."""
    backbone = trainable_backbone(name, from_scratch, preprocess)
    for scale in _SCALES:
        parameter = getattr(backbone.model, scale, None)
        if isinstance(parameter, torch.nn.Parameter):
            parameter.requires_grad_(False)
    # Convolutions are faster so, on CPUs by a third; other layers keep their layout.
    return backbone.to(memory_format=torch.channels_last)


def _vision_language(
    name: str, preprocess: str | None, adapter: AdapterSettings | None, frozen_precision: str
) -> Backbone:
    from mmret.backbones.vlm_pages import VlmBackbone
    from mmret.backbones.vlm_saving import refuse_unwritable
    from mmret.backbones.vlm_specs import VlmSpec

    spec = resolve(name, preprocess)
    assert isinstance(spec, VlmSpec)
    whole = adapter is None and not spec.adapter
    if whole:
        refuse_unwritable(spec)
    precision = "fp32" if whole else frozen_precision
    backbone = load_backbone(name, preprocess=preprocess, precision=precision)
    assert isinstance(backbone, VlmBackbone)
    if whole:
        refuse_unwritable(spec, backbone.projection)
        return backbone.unfreeze()
    return _adapted(backbone, adapter, spec.adapter)


def _adapted(backbone: "VlmBackbone", new: AdapterSettings | None, folder: str) -> Backbone:
    """The backbone with a new adapter, or with that of a folder, in float32 whatever the weights beside it are."""
    if new is not None:
        backbone.adapt(new)
    for parameter in adapter_parameters(backbone.model):
        parameter.data = parameter.data.to(torch_dtype("fp32"))
    if folder:  # again, as they lie there: the model's were rounded to its own format
        fill_adapter(backbone.model, Path(folder))
    return backbone.unfreeze()


def _checkpoint_gradients(backbone: Backbone) -> None:
    """open_clip's own way; transformers' in each of the models that a backbone is made of."""
    model = _inner(backbone)
    if isinstance(backbone, OpenClipBackbone):
        model.set_grad_checkpointing(True)
        return
    from transformers import PreTrainedModel

    parts = [model] if isinstance(model, PreTrainedModel) else list(model.children())
    for part in parts:
        if isinstance(part, PreTrainedModel):
            enable: Any = part.activation_checkpointing_enable
            enable({"use_reentrant": False})


def _inner(backbone: Backbone) -> Any:
    """The library's model in a backbone."""
    return backbone.model
