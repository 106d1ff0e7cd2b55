"""From a name to a spec, and from a spec to a model.

| name | what it is |
|---|---|
| `clip-vit-b-32`, `clip-vit-l-14`, … | OpenAI's CLIP |
| `vit-h-14-laion2b-s32b-b79k`, `vit-b-16-siglip2-webli`, … | any pretrained tag of open_clip, by rule |
| `open_clip:ARCH/TAG`, `open_clip:ARCH/FILE` | the same in open_clip's own words; local weights |
| `timm:NAME`, `timm:ARCH/FILE` | an image encoder of timm (no texts) |
| `dse-qwen2-2b-mrl`, `dse-phi3`, `colpali-v1.3`, … | public page encoders (`vlm_presets.py`) |
| `vlm:FOLDER`, `vlm:OWNER/MODEL` | a vision-language model of transformers as a page encoder |
| any of these two with `?key=value&…` | the same with another pooling, width, adapter, … (`vlm_specs.py`) |
| `miniature-clip`, `miniature-pages` | the small CLIP and the small page encoder that ship with the package |
| a path | a folder with `open_clip_config.json`, or a weights file in such a folder; a folder of transformers |

The modules that build models are imported when one of their names is asked for.
"""

from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from mmret.backbones.base import Backbone
from mmret.backbones.preprocess import OWN, ImageTransform
from mmret.backbones.spec import PRECISIONS, BackboneSpec
from mmret.errors import InputError, nearest

MINIATURES = ("miniature-clip", "miniature-pages")
"""The models that ship with the package (`miniature.FOLDERS`)."""


class Loader(NamedTuple):
    """What builds the models of one kind: the subclass `kind` of `Backbone` in `module`.

    `form` says what stands behind the loader's name and a colon in the names that are its own: `timm:NAME`. A loader
    without one has no such names.
    """

    module: str
    kind: str
    form: str = ""


LOADERS = {
    "open_clip": Loader("mmret.backbones.openclip", "OpenClipBackbone", "ARCH/TAG"),
    "open_clip_crops": Loader("mmret.backbones.openclip_crops", "CroppedBackbone"),
    "timm": Loader("mmret.backbones.timm_images", "TimmBackbone", "NAME"),
    "miniature": Loader("mmret.backbones.miniature", "MiniatureBackbone"),
    "vlm": Loader("mmret.backbones.vlm_pages", "VlmBackbone", "FOLDER"),
}
"""Loader → what it builds; its key is the `loader` of the specs that it describes."""


def load_backbone(
    name: str, *, preprocess: str | None = None, precision: str = "fp32", device: str = "cpu"
) -> Backbone:
    """Return the frozen backbone called `name`, with its weights, on `device`.

    `preprocess` is a name of `preprocess.py`, by default the model's own. `precision` ("fp32", "bf16" or
    "fp16") is that of weights and activations: features always come out as float32. `device` is "cpu",
    "cuda", "cuda:N" or "auto" (a GPU when there is one). Raises `InputError`.
    """
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}: use one of {', '.join(PRECISIONS)}.")
    chosen = pick_device(device)
    spec = resolve(name, preprocess)
    return _loader(spec.loader).load(spec, precision, chosen)


def resolve(name: str, preprocess: str | None = None) -> BackboneSpec:
    """Return the spec of `name` without building the model; raises `InputError` with the nearest names."""
    spec = _loader(_loader_of(name)).describe(name)
    return spec if preprocess is None else with_preprocess(spec, preprocess)


def with_preprocess(spec: BackboneSpec, preprocess: str) -> BackboneSpec:
    """Return a spec with another preprocessing, by name ("own": the same); raises `InputError` for none of its kind."""
    if preprocess == OWN:
        return spec
    return _loader(spec.loader).with_preprocess(spec, preprocess)


def transform_of(spec: BackboneSpec) -> ImageTransform:
    """Return what a backbone of this spec does with an image before it is encoded, without building the model."""
    return _loader(spec.loader).transform_of(spec)


def names() -> list[str]:
    """Return every short name, sorted (paths, and names with a loader's prefix, come on top)."""
    from mmret.backbones.openclip_names import catalogue
    from mmret.backbones.vlm_presets import PRESETS

    return sorted([*MINIATURES, *PRESETS, *catalogue()])


def pick_device(device: str) -> str:
    """Return `device`, or what "auto" stands for; raises `InputError` where there is no such device."""
    import torch

    gpu = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if gpu else "cpu"
    kind, _, number = device.partition(":")
    known = kind in ("cpu", "cuda") and (not number or number.isdecimal())
    if not known:
        raise InputError(f"unknown device {device!r}: use 'cpu', 'cuda', 'cuda:N' or 'auto'.")
    if kind == "cuda" and not gpu:
        raise InputError(f"device {device!r} was asked for, but torch sees no GPU here: use 'cpu' or 'auto'.")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise InputError(f"device {device!r} was asked for, but there are {torch.cuda.device_count()} GPUs.")
    return device


def _loader(loader: str) -> type[Backbone]:
    known = LOADERS[loader]
    found: type[Backbone] = getattr(import_module(known.module), known.kind)
    return found


def _is_page_encoder(name: str) -> bool:
    from mmret.backbones.vlm_specs import is_vlm_name

    return is_vlm_name(name)


def _loader_of(name: str) -> str:
    """Say which loader a name belongs to; raises `InputError` for a name that nobody knows."""
    prefix, colon, _ = name.partition(":")
    if colon and prefix in LOADERS and LOADERS[prefix].form:
        return prefix
    if name in MINIATURES:
        return "miniature"
    if "?" in name or _is_page_encoder(name):
        return "vlm"
    from mmret.backbones.openclip_names import find

    if find(name) is not None or Path(name).exists():
        return "open_clip"
    if "/" in name or "\\" in name:
        raise InputError(f"{name} does not exist: a backbone's name with a slash in it is a path.")
    forms = ", ".join(f"{loader}:{known.form}" for loader, known in LOADERS.items() if known.form)
    raise InputError(
        f"unknown backbone {name!r}{nearest(name, names())}; {forms} and paths of checkpoints work too."
    )
