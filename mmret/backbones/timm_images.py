"""Image encoders of timm (DINOv2, ConvNeXt, …) behind the one interface; they have no text tower."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import timm
import torch
from timm.models import load_state_dict
from torch import Tensor, nn

from mmret.backbones.base import Backbone
from mmret.backbones.checkpoints import file_revision, find_weights, published_revision, reading
from mmret.backbones.precision import torch_dtype
from mmret.backbones.spec import BackboneSpec
from mmret.errors import InputError, nearest

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


class TimmBackbone(Backbone):
    """A timm model without its classifier: the pooled features that the classifier would have read."""

    has_text = False

    def __init__(self, spec: BackboneSpec, model: nn.Module, precision: str = "fp32") -> None:
        super().__init__(spec, precision)
        self.model = model.to(torch_dtype(precision))

    @classmethod
    def describe(cls, name: str) -> BackboneSpec:
        """Return the spec of `timm:NAME` (a pretrained name) or `timm:ARCH/FILE`."""
        architecture, _, file = name.removeprefix("timm:").partition("/")
        config = _pretrained_config(architecture)
        weights = find_weights(Path(file)) if file else None
        # Built without memory for its weights, only to ask it for its width and pooling.
        with torch.device("meta"):
            model: Any = timm.create_model(architecture, pretrained=False, num_classes=0)
        return BackboneSpec(
            name=name,
            loader="timm",
            architecture=architecture,
            weights=str(weights) if weights else "pretrained",
            revision=file_revision(weights) if weights else _hub_revision(config),
            width=model.num_features,
            pooling=str(getattr(model, "global_pool", "") or "avg"),
            preprocess=_preprocess(name, config),
            image_size=_square(name, config.input_size),
            context_length=0,
            licence=config.license or "see source",
            mean=tuple(config.mean),
            std=tuple(config.std),
            interpolation=config.interpolation,
        )

    @classmethod
    def load(cls, spec: BackboneSpec, precision: str, device: str) -> Self:
        """Build the model and read its weights, downloading published ones on their first use."""
        if spec.weights == "pretrained":
            model = _download(spec)
            spec = replace(spec, revision=_hub_revision(_pretrained_config(spec.architecture)))
        else:
            model = timm.create_model(spec.architecture, pretrained=False, num_classes=0)
            _read(model, spec)
        return cls(spec, model, precision).to(device).freeze()

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Return float32 [B, D], un-normalised, of pixels [B, 3, H, W]."""
        weight = next(self.model.parameters())
        features: Tensor = self.model(pixels.to(weight.device, weight.dtype))
        return features.float()


def _pretrained_config(architecture: str) -> Any:
    """Return timm's description of a model (of its default weights without a tag); raises `InputError`."""
    config = timm.get_pretrained_cfg(architecture) if timm.is_model(architecture) else None
    if config is None:
        near = nearest(architecture, timm.list_models(pretrained=True))
        raise InputError(f"timm has no model {architecture!r}{near}.")
    return config


def _hub_revision(config: Any) -> str:
    return published_revision("", config.hf_hub_id or "timm", _HUB_FILES)


def _preprocess(name: str, config: Any) -> str:
    """Return the preprocessing that equals timm's for evaluation; raises `InputError` where none does."""
    if config.crop_mode == "center":
        return "center-crop" if config.crop_pct == 1 else f"center-crop-{config.crop_pct}"
    if config.crop_mode == "squash" and config.crop_pct == 1:
        return "squash"
    raise InputError(f"{name} was trained with the crop mode {config.crop_mode!r}, which is not supported.")


def _square(name: str, input_size: tuple[int, int, int]) -> int:
    channels, height, width = input_size
    if channels != 3 or height != width:
        raise InputError(f"{name} takes images of {width} × {height} pixels; only square ones are supported.")
    return height


def _download(spec: BackboneSpec) -> nn.Module:
    try:
        model: nn.Module = timm.create_model(spec.architecture, pretrained=True, num_classes=0)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"the weights of {spec.name} are not in the local cache and cannot be fetched "
            f"({type(error).__name__}): connect to the hub once, or name a local file as in "
            f"timm:{spec.architecture}/FILE."
        ) from error
    return model


def _read(model: nn.Module, spec: BackboneSpec) -> None:
    """Read local weights strictly, but for the classifier that the model was built without."""
    with reading(spec.weights, spec.architecture):
        state = load_state_dict(spec.weights, use_ema=False, weights_only=True)
        head = _pretrained_config(spec.architecture).classifier or ()
        heads = (head,) if isinstance(head, str) else tuple(head)
        dropped = {key for key in state if key.rpartition(".")[0] in heads} - model.state_dict().keys()
        model.load_state_dict({key: value for key, value in state.items() if key not in dropped})
