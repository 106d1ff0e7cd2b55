"""From a spec to a model of transformers, its processor and its projection, all of whose weights were read."""

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from mmret.backbones.adapters import load_adapter
from mmret.backbones.checkpoints import reading
from mmret.backbones.pooling import LATENT_ATTENTION, LatentAttention
from mmret.backbones.precision import torch_dtype
from mmret.backbones.vlm_families import WRAPPERS, Family, family_of
from mmret.backbones.vlm_files import read_config, refuse_unread
from mmret.backbones.vlm_specs import VlmSpec
from mmret.errors import InputError, missing_extra

LATENT_FILE = "latent_attention.safetensors"


@dataclass
class Parts:
    """A loaded model.

    Attributes:
        family: What kind it is.
        model: The base model, whose `last_hidden_state` comes from behind its last norm.
        processor: The image processor, the tokenizer, and what an image becomes in a text.
        projection: What late interaction puts behind the states, or None.
        latent: The weights of latent attention, or None.
    """

    family: Family
    model: Any
    processor: Any
    projection: nn.Module | None = None
    latent: LatentAttention | None = None


def load_parts(spec: VlmSpec, precision: str, device: str) -> Parts:
    """Read everything that a spec names; raises `InputError` where it is not there, or does not fit."""
    require_transformers()
    config = read_config(spec.weights, "config.json")
    family = family_of(config, spec.weights)
    settings = _settings(spec, precision, device)
    with reading(spec.weights, family.name), silent():
        parts = _parts(spec, family, WRAPPERS.get(str(config.get("model_type"))), settings)
    if spec.pooling == LATENT_ATTENTION:
        parts.latent = _latent_attention(spec)
    if spec.adapter:
        parts.model = load_adapter(parts.model, Path(spec.adapter))
    if spec.compile:
        parts.model.compile()
    return parts


def require_transformers() -> None:
    """Raise `InputError` where transformers is not installed."""
    if importlib.util.find_spec("transformers") is None:
        raise missing_extra("A vision-language model", "transformers", "vlm")


def _settings(spec: VlmSpec, precision: str, device: str) -> dict[str, Any]:
    """Arguments of `from_pretrained`: never a repository's own code, never a pickle."""
    settings: dict[str, Any] = {
        "dtype": torch_dtype(precision),
        "attn_implementation": spec.attention or _attention(precision, device),
        "use_safetensors": True,
        "trust_remote_code": False,
    }
    if not Path(spec.weights).is_dir():
        settings["revision"] = spec.revision.partition("+")[0].rpartition("@")[2]
    if spec.quantise:
        settings |= {"quantization_config": _quantisation(spec), "device_map": device}
    return settings


def _attention(precision: str, device: str) -> str:
    """Flash attention where its package is there, on a GPU and in half precision; else torch's own."""
    there = importlib.util.find_spec("flash_attn") is not None
    return "flash_attention_2" if there and device.startswith("cuda") and precision != "fp32" else "sdpa"


def _quantisation(spec: VlmSpec) -> Any:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(
            f"{spec.name} asks for {spec.quantise} weights, which need the package bitsandbytes: install it, or leave "
            "quantise out."
        )
    transformers: Any = import_module("transformers")
    return transformers.BitsAndBytesConfig(
        load_in_8bit=spec.quantise == "8bit", load_in_4bit=spec.quantise == "4bit"
    )


def _parts(spec: VlmSpec, family: Family, wrapper: str | None, settings: dict[str, Any]) -> Parts:
    """The model and its processor; what transformers raises is raised."""
    if family.name == "phi3-vision":
        from mmret.backbones.phi3_vision import load_phi3_vision

        return Parts(family, *load_phi3_vision(spec, settings["dtype"], settings["attn_implementation"]))
    transformers: Any = import_module("transformers")
    source = spec.weights
    identity: dict[str, Any] = {
        key: settings[key] for key in ("revision", "trust_remote_code") if key in settings
    }
    processor = _processor(source, family, identity)
    kind = getattr(transformers, wrapper or "AutoModel")
    model, told = kind.from_pretrained(source, output_loading_info=True, **settings)
    refuse_unread(told["missing_keys"], told["mismatched_keys"], source)
    _see_both_ways(model)
    if wrapper:
        return Parts(family, model.vlm, processor, model.embedding_proj_layer)
    return Parts(family, model, processor)


def _processor(source: str, family: Family, identity: dict[str, Any]) -> Any:
    transformers: Any = import_module("transformers")  # which annotates little of what is used here
    if not family.processor:
        return transformers.AutoProcessor.from_pretrained(source, **identity)
    images = transformers.AutoImageProcessor.from_pretrained(source, **identity)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, **identity)
    told = read_config(source, "processor_config.json")
    options = {key: told[key] for key in ("image_seq_len",) if key in told}
    return getattr(transformers, family.processor)(images, tokenizer, **options)


@contextmanager
def silent() -> Iterator[None]:
    """Within: no progress bars, reports or warnings of transformers, whose findings are looked at here."""
    logging: Any = import_module("transformers.utils.logging")
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # Of words in a published configuration that are old by now.
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _see_both_ways(model: Any) -> None:
    """Let Phi-4-multimodal's vision tower attend in both directions, whatever else is in the batch.

    transformers 5.23 marks its attention as causal, which torch's fused kernel obeys where no patch is masked: a page
    that fills its tiles is seen causally alone, and in both directions beside a page that does not.
    """
    for module in model.modules():
        if type(module).__name__ == "Phi4MultimodalVisionAttention":
            module.is_causal = False


def _latent_attention(spec: VlmSpec) -> LatentAttention:
    path = Path(spec.weights) / LATENT_FILE
    if not path.is_file():
        raise InputError(
            f"the pooling {LATENT_ATTENTION} needs weights of its own, and {path} does not exist."
        )
    with reading(path, LATENT_ATTENTION):
        state = load_file(path)
    prefix = "latent_attention_model."
    return LatentAttention.from_state(
        {key.removeprefix(prefix): torch.as_tensor(v) for key, v in state.items()}
    )
