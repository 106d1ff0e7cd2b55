"""CLIP, SigLIP and their kin: every architecture of open_clip behind the one interface."""

import json
import warnings
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import open_clip
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.factory import load_checkpoint
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import PreprocessCfg, merge_preprocess_dict
from torch import Tensor

from mmret.backbones.base import Backbone, PromptTokens
from mmret.backbones.checkpoints import (
    file_revision,
    find_weights,
    has_weights,
    published_revision,
    reading,
)
from mmret.backbones.injection import pseudo_words
from mmret.backbones.openclip_names import UNKNOWN_LICENCE, Pretrained, find, licence, matching, short_name
from mmret.backbones.openclip_tokens import prompt_tokenizer
from mmret.backbones.precision import torch_dtype
from mmret.backbones.prompt import Prompt
from mmret.backbones.spec import BackboneSpec
from mmret.backbones.tokens import PromptTokenizer
from mmret.errors import InputError

CONFIG = "open_clip_config.json"
"""A local folder's description: `model_cfg` and `preprocess_cfg`, as open_clip writes it for a hub."""

BYTE_PAIRS = "bpe_vocabulary.txt.gz"
"""A local folder's own byte-pair vocabulary, in the format of CLIP's; without it open_clip chooses."""

UNTRAINED = "untrained"
"""The revision of an architecture without weights."""

LOCAL = "local"
"""The architecture of a spec whose model is described beside its weights."""

_GEOMETRIES = {"shortest": "center-crop", "longest": "letterbox", "squash": "squash"}


class OpenClipBackbone(Backbone):
    """A two-tower model of open_clip: `CLIP`, `CustomTextCLIP` or `CoCa`."""

    def __init__(self, spec: BackboneSpec, model: Any, precision: str = "fp32") -> None:
        super().__init__(spec, precision)
        # Read off before the weights are rounded: a scale of 100 has no neighbour nearer than .5 in bf16.
        self._logit_scale = float(model.logit_scale.detach().exp())
        self.model = model.to(torch_dtype(precision))

    @classmethod
    def describe(cls, name: str) -> BackboneSpec:
        """Return the spec of a short name, of `open_clip:ARCH/TAG-or-FILE`, or of a path.

        A folder that describes a model and holds no weights gives a spec of the revision "untrained".
        """
        if (Path(name) / CONFIG).is_file() and not has_weights(Path(name)):
            return architecture_spec(name)
        architecture, weights = _source(name)
        if Path(weights).is_file():
            return _local_spec(name, architecture, Path(weights))
        return _published_spec(architecture, weights)

    @classmethod
    def load(cls, spec: BackboneSpec, precision: str, device: str) -> Self:
        """Build the towers and read the weights, downloading a published tag on its first use."""
        if spec.revision == UNTRAINED:
            find_weights(Path(spec.weights).parent)
        file = spec.weights if Path(spec.weights).is_file() else _download(spec)
        with reading(file, spec.architecture):
            model = build_model(model_config(spec))
            load_checkpoint(model, file)
        if file != spec.weights:
            spec = replace(spec, revision=_published_spec(spec.architecture, spec.weights).revision)
        return cls(spec, model, precision).to(device).freeze()

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Return float32 [B, D], un-normalised, of pixels [B, 3, H, W]."""
        weight = next(self.model.visual.parameters())
        features: Tensor = self.model.encode_image(pixels.to(weight.device, weight.dtype), normalize=False)
        return features.float()

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Return int64 [B, L]; texts that are too long are cut, with one warning that counts them."""
        return self.tokenize_prompts([(text,) for text in texts]).ids

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Return float32 [B, D], un-normalised, of token ids int64 [B, L]."""
        features: Tensor = self.model.encode_text(tokens.to(self.device), normalize=False)
        return features.float()

    def tokenize_prompts(self, prompts: Sequence[Prompt]) -> PromptTokens:
        """Return ids and word mask; over-long prompts lose text, with one warning that counts them."""
        tokens, cut = self.prompt_tokenizer(prompts)
        if cut:
            warnings.warn(
                f"{cut} of {len(prompts)} texts are longer than the {self.spec.context_length} tokens that "
                f"{self.spec.name} reads, and were cut.",
                stacklevel=2,
            )
        return tokens

    def encode_prompts(self, prompt_tokens: PromptTokens, words: Tensor) -> Tensor:
        """Return float32 [B, D] of prompts with `words` [B, T] in their places; differentiable in `words`."""
        ids, word_mask = prompt_tokens.to(self.device)
        with pseudo_words(self._embedding, word_mask, words.to(self.device)):
            return self.encode_text(ids)

    @property
    def token_width(self) -> int:
        """The width T of the token embeddings."""
        return int(self._embedding.weight.shape[1])

    @property
    def logit_scale(self) -> float:
        """The trained factor on cosine similarities."""
        return self._logit_scale

    @property
    def learnt_scale(self) -> Tensor:
        """The logarithm of the factor on cosine similarities, as the parameter that training moves."""
        scale: Tensor = self.model.logit_scale
        return scale

    @cached_property
    def prompt_tokenizer(self) -> PromptTokenizer:
        """The tokenizer, loaded when first needed: images need none, and some lie on a hub."""
        local = self.spec.architecture == LOCAL
        folder = Path(self.spec.weights).parent
        if local and (folder / BYTE_PAIRS).is_file():
            own = SimpleTokenizer(str(folder / BYTE_PAIRS), context_length=self.spec.context_length)
            return prompt_tokenizer(own, self.spec.context_length)
        name = f"local-dir:{folder}" if local else self.spec.architecture
        try:
            tokenizer = open_clip.get_tokenizer(name)
        except (OSError, ValueError) as error:
            raise InputError(
                f"the tokenizer of {self.spec.name} cannot be loaded ({str(error).splitlines()[0]}): put its "
                "files beside the weights, or connect to the hub once."
            ) from error
        return prompt_tokenizer(tokenizer, self.spec.context_length)

    @property
    def _embedding(self) -> Any:
        """The module that embeds token ids, in each of open_clip's shapes."""
        tower = getattr(self.model, "text", self.model)
        if hasattr(tower, "token_embedding"):
            return tower.token_embedding
        return tower.transformer.get_input_embeddings()


def _source(name: str) -> tuple[str, str]:
    """Return the architecture and the tag or weights file that a name stands for; raises `InputError`."""
    if name.startswith("open_clip:"):
        return _explicit_source(name)
    found = find(name)
    if found is not None:
        return found
    file = find_weights(Path(name))
    if not (file.parent / CONFIG).is_file():
        raise InputError(
            f"{file.parent} holds no {CONFIG}, which says what model the weights are for: add one, or name "
            "the architecture as in open_clip:ViT-B-32/FILE or timm:NAME/FILE."
        )
    return LOCAL, str(file)


def _explicit_source(name: str) -> tuple[str, str]:
    architecture, _, weights = name.removeprefix("open_clip:").partition("/")
    if architecture not in open_clip.list_models():
        raise InputError(
            f"{name!r} names no architecture of open_clip: write open_clip:ARCH/TAG, as in "
            "open_clip:ViT-B-32/laion2b_s34b_b79k."
        )
    if open_clip.get_pretrained_cfg(architecture, weights):
        return matching(architecture, weights)
    tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none"
    if not Path(weights).is_file():
        raise InputError(f"{weights!r} is neither a file nor a tag of {architecture}; its tags are: {tags}.")
    return architecture, str(find_weights(Path(weights)))


def _published_spec(architecture: str, tag: str) -> BackboneSpec:
    published = open_clip.get_pretrained_cfg(architecture, tag)
    config = open_clip.get_model_config(architecture)
    repository, _, filename = published["hf_hub"].rpartition("/")
    filenames = (filename,) if filename else (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)
    return _spec(
        config,
        merge_preprocess_dict(PreprocessCfg(), published),
        name=short_name(matching(architecture, tag)),
        architecture=architecture,
        weights=tag,
        revision=published_revision(published["url"], repository, filenames),
        licence=licence(Pretrained(architecture, tag)),
    )


def architecture_spec(name: str) -> BackboneSpec:
    """Return the spec of an architecture without its weights: a short name, or a described folder.

    Its revision is "untrained", which no store of vectors may carry for long: it names no weights.
    """
    described = Path(name) / CONFIG
    if described.is_file():
        config, preprocess = _read_config(described)
        architecture, weights = LOCAL, str(Path(name) / UNTRAINED)
    else:
        architecture, weights = _source(name)
        config, preprocess = open_clip.get_model_config(architecture), {}
    return _spec(
        config,
        merge_preprocess_dict(PreprocessCfg(), preprocess),
        name=name,
        architecture=architecture,
        weights=weights,
        revision=UNTRAINED,
        licence=UNKNOWN_LICENCE,
    )


def _local_spec(name: str, architecture: str, file: Path) -> BackboneSpec:
    described = file.parent / CONFIG
    if architecture == LOCAL:
        config, preprocess = _read_config(described)
    else:
        config, preprocess = open_clip.get_model_config(architecture), {}
    return _spec(
        config,
        merge_preprocess_dict(PreprocessCfg(), preprocess),
        name=name,
        architecture=architecture,
        weights=str(file),
        revision=file_revision(file, *([described] if architecture == LOCAL else [])),
        licence=UNKNOWN_LICENCE,
    )


def _spec(config: dict[str, Any], preprocess: dict[str, Any], **identity: str) -> BackboneSpec:
    """Complete a spec from a model's and a preprocessing's configuration, with open_clip's defaults."""
    text = config["text_cfg"]
    pooling = text.get("hf_pooler_type", "mean_pooler") if "hf_model_name" in text else text.get("pool_type")
    return BackboneSpec(
        loader="open_clip",
        width=config["embed_dim"],
        pooling="cls" if text.get("embed_cls") else pooling or "argmax",
        preprocess=_GEOMETRIES[preprocess["resize_mode"]],
        image_size=config["vision_cfg"].get("image_size", 224),
        context_length=text.get("context_length", 77),
        mean=tuple(preprocess["mean"]),
        std=tuple(preprocess["std"]),
        interpolation=preprocess["interpolation"],
        **identity,
    )


def _read_config(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return `model_cfg` and `preprocess_cfg` of a folder; raises `InputError`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        model: dict[str, Any] = content["model_cfg"]
        complete = {"embed_dim", "vision_cfg", "text_cfg"} <= model.keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no description of an open_clip model ({error}).") from error
    if not complete:
        raise InputError(f"{path} lacks embed_dim, vision_cfg or text_cfg under model_cfg.")
    return model, content.get("preprocess_cfg") or {}


def model_config(spec: BackboneSpec) -> dict[str, Any]:
    """Return the configuration to build from; a local text tower finds its own description in its folder."""
    if spec.architecture != LOCAL:
        config: dict[str, Any] = open_clip.get_model_config(spec.architecture)
        return config
    folder = Path(spec.weights).parent
    config = _read_config(folder / CONFIG)[0]
    if "hf_model_name" in config["text_cfg"] and (folder / "config.json").is_file():
        config["text_cfg"]["hf_model_name"] = str(folder)
    return config


def build_model(config: dict[str, Any]) -> Any:
    """Build a model with random weights, and none from a hub.

    This is the part of `open_clip.create_model` that chooses the class; that function would warn of random
    weights, and would silently return them for a folder that holds none.
    """
    config = deepcopy(config)
    config["vision_cfg"]["timm_model_pretrained"] = False
    config["text_cfg"]["hf_model_pretrained"] = False
    if not (config.pop("custom_text", False) or "hf_model_name" in config["text_cfg"]):
        return open_clip.CLIP(**config)
    return (open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP)(**config)


def _download(spec: BackboneSpec) -> str:
    published = open_clip.get_pretrained_cfg(spec.architecture, spec.weights)
    try:
        return str(open_clip.download_pretrained(published))
    except Exception as error:  # open_clip lets pass whatever its many ways of downloading raise
        raise InputError(
            f"the weights of {spec.name} are not in the local cache and cannot be fetched "
            f"({type(error).__name__}): connect to the hub once, or name a local file as in "
            f"open_clip:{spec.architecture}/FILE."
        ) from error
