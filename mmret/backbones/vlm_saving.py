"""Page encoders written as folders that `load_backbone` reads: weights, processor, and how they are asked."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save
from torch import nn

from mmret.atomic import atomic_write, write_text
from mmret.backbones.adapters import adapter_parameters
from mmret.backbones.phi3_vision import Phi3VisionModel, public_key
from mmret.backbones.vlm_families import Recipe
from mmret.backbones.vlm_loading import LATENT_FILE
from mmret.backbones.vlm_pages import VlmBackbone
from mmret.backbones.vlm_specs import RECIPE, VlmSpec
from mmret.errors import InputError


def recipe_of(spec: VlmSpec) -> Recipe:
    """Return how a spec puts pages and queries to its model."""
    return Recipe(spec.document_prompt, spec.query_prompt, spec.pooling, spec.padding_side, spec.preprocess)


def refuse_unwritable(spec: VlmSpec, projection: nn.Module | None = None) -> None:
    """Raise `InputError` for an encoder that is not written whole: with quantised weights, or a projection."""
    if spec.quantise or projection is not None:
        what = f"weights in {spec.quantise}" if spec.quantise else "a projection behind its states"
        raise InputError(
            f"{spec.name} has {what}, and is not written whole: train an adapter of it (`adapter: {{rank: 8}}`)."
        )


def save_page_encoder(backbone: VlmBackbone, folder: Path) -> None:
    """Write a page encoder as a folder of its own, in the layout that it was read from; its weights come last.

    Raises:
        InputError: it has an adapter (`adapters.save_adapter` writes that), a projection, or quantised weights; or a
            file cannot be written.
    """
    spec = backbone.spec
    assert isinstance(spec, VlmSpec)
    refuse_unwritable(spec, backbone.projection)
    if adapter_parameters(backbone.model):
        raise InputError(f"{spec.name} has an adapter, and is not written whole: save its adapter.")
    write_text(folder / RECIPE, json.dumps(asdict(recipe_of(spec)), ensure_ascii=False, indent=1) + "\n")
    if backbone.pooling.latent is not None:
        with atomic_write(folder / LATENT_FILE) as file:
            file.write(
                save({key: value.cpu() for key, value in backbone.pooling.latent.state_dict().items()})
            )
    if isinstance(backbone.model, Phi3VisionModel):
        _save_phi3_vision(backbone, folder)
        return
    backbone.inputs.processor.save_pretrained(folder)
    backbone.model.save_pretrained(folder)


def _save_phi3_vision(backbone: VlmBackbone, folder: Path) -> None:
    """The published keys; the description is the one that the model was built from."""
    from mmret.backbones.vlm_files import model_folder

    source = model_folder(backbone.spec.weights, backbone.spec.revision)
    if source.resolve() != folder.resolve():
        shutil.copyfile(source / "config.json", folder / "config.json")
    backbone.inputs.tokenizer.save_pretrained(folder)
    tensors = {
        public_key(key): value.detach().cpu().contiguous()
        for key, value in backbone.model.state_dict().items()
    }
    with atomic_write(folder / "model.safetensors") as file:
        file.write(save(tensors, metadata={"format": "pt"}))
