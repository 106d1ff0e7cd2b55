"""Backbones before and after their training: built with random weights, and written as a folder."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save

from mmret.atomic import atomic_write, write_text
from mmret.backbones.checkpoints import SUFFIXES
from mmret.backbones.miniature import FOLDERS
from mmret.backbones.openclip import BYTE_PAIRS, CROPPED, OpenClipBackbone, build_model
from mmret.backbones.openclip_crops import CroppedBackbone
from mmret.backbones.openclip_specs import CONFIG, LOCAL, architecture_spec, model_config, preprocess_config
from mmret.backbones.preprocess import OWN
from mmret.backbones.registry import load_backbone, with_preprocess
from mmret.errors import InputError

WEIGHTS = "open_clip_model.safetensors"


def trainable_backbone(
    name: str, from_scratch: bool = False, preprocess: str | None = None
) -> OpenClipBackbone:
    """Return the backbone called `name`, float32, ready to be trained; `preprocess` replaces its own.

    From scratch, its architecture gets random weights (of torch's global seed) and none are read: `name` may then
    be a folder that holds a description and no weights. Raises `InputError` for a backbone without a text tower.
    """
    if from_scratch:
        source = str(FOLDERS.get(name, name))
        spec = architecture_spec(source)
        wanted = spec.preprocess if preprocess is None or preprocess == OWN else preprocess
        spec = with_preprocess(spec, wanted)
        kind = CroppedBackbone if spec.loader == CROPPED else OpenClipBackbone
        return kind(spec, build_model(model_config(spec))).unfreeze()
    backbone = load_backbone(name, preprocess=preprocess)
    if not isinstance(backbone, OpenClipBackbone):
        raise InputError(f"backbone {name} has no text tower to be trained with: name one of open_clip.")
    return backbone.unfreeze()


def save_backbone(backbone: OpenClipBackbone, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a backbone as a folder that `load_backbone` reads: description, tokenizer files, weights in `dtype`.

    The weights come last, whole or not at all, so that a folder with weights is whole. Raises `InputError` if a
    file cannot be written.
    """
    spec = backbone.spec
    description = {"model_cfg": model_config(spec), "preprocess_cfg": preprocess_config(spec)}
    write_text(folder / CONFIG, json.dumps(description, indent=1, sort_keys=True) + "\n")
    if spec.architecture == LOCAL:
        _copy_tokenizer(Path(spec.weights).parent, folder)
    tensors = {
        key: value.detach().to("cpu", dtype).contiguous()
        for key, value in backbone.model.state_dict().items()
    }
    with atomic_write(folder / WEIGHTS) as file:
        file.write(save(tensors, metadata={"format": "pt"}))


def _copy_tokenizer(source: Path, folder: Path) -> None:
    """Its own byte pairs, or else everything small beside a local model's weights: a tokenizer comes in many files."""
    if source.resolve() == folder.resolve():
        return
    own = source / BYTE_PAIRS
    for file in [own] if own.is_file() else source.iterdir():
        if file.is_file() and file.suffix not in SUFFIXES and file.name != CONFIG:
            shutil.copyfile(file, folder / file.name)
