"""CLIP, SigLIP and their kin: every architecture of open_clip behind the one interface."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import open_clip
from open_clip.factory import load_checkpoint
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from mmret.backbones import (
    openclip_specs,
    page_network,  # noqa: F401 (registers the network with timm)
)
from mmret.backbones.base import Backbone, PatchFeatures, PromptTokens
from mmret.backbones.checkpoints import find_weights, reading
from mmret.backbones.crops import parse_crops
from mmret.backbones.injection import pseudo_words
from mmret.backbones.openclip_patches import patch_vectors
from mmret.backbones.openclip_specs import LOCAL, UNTRAINED, model_config, published_spec, text_pooling
from mmret.backbones.openclip_tokens import prompt_tokenizer
from mmret.backbones.precision import torch_dtype
from mmret.backbones.prompt import Prompt
from mmret.backbones.shortening import shortened
from mmret.backbones.spec import TOKENS, BackboneSpec
from mmret.backbones.tokens import PromptTokenizer
from mmret.errors import InputError

BYTE_PAIRS = "bpe_vocabulary.txt.gz"
"""A local folder's own byte-pair vocabulary, in the format of CLIP's; without it open_clip chooses."""

CROPPED = "open_clip_crops"
"""The loader of models whose preprocessing divides an image into crops."""

_NEAR = {"fp32": 1e-4, "fp16": 0.02, "bf16": 0.05}
"""How far, of its length, a vector may be from the mean of its exact shares; another pooling is farther off."""


class OpenClipBackbone(Backbone):
    """A two-tower model of open_clip: `CLIP`, `CustomTextCLIP` or `CoCa`."""

    def __init__(self, spec: BackboneSpec, model: Any, precision: str = "fp32") -> None:
        super().__init__(spec, precision)
        # Read off before the weights are rounded: a scale of 100 has no neighbour nearer than .5 in bf16.
        self._logit_scale = float(model.logit_scale.detach().exp())
        self.model = model.to(torch_dtype(precision))

    @classmethod
    def describe(cls, name: str) -> BackboneSpec:
        """Return the spec of a name of open_clip's or of a path: see `openclip_specs.describe`."""
        spec = openclip_specs.describe(name)
        return cls.with_preprocess(spec, spec.preprocess)  # a folder's own may be of crops

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
            spec = replace(spec, revision=published_spec(spec.architecture, spec.weights).revision)
        return cls(spec, model, precision).to(device).freeze()

    @classmethod
    def check_preprocess(cls, spec: BackboneSpec, name: str) -> None:
        """Raise `InputError` unless `name` is a preprocessing of one square, or of crops."""
        if parse_crops(name) is None:
            super().check_preprocess(spec, name)

    @classmethod
    def with_preprocess(cls, spec: BackboneSpec, name: str) -> BackboneSpec:
        """Return the spec with another preprocessing; for crops that of a `CroppedBackbone`."""
        changed, crops = super().with_preprocess(spec, name), parse_crops(name)
        if crops is None and spec.loader != CROPPED:
            return changed
        pooling = TOKENS if crops and crops.each else text_pooling(model_config(spec))
        return replace(changed, loader=CROPPED if crops else "open_clip", pooling=pooling)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Return float32 [B, D], un-normalised, of pixels [B, 3, H, W]."""
        weight = next(self.model.visual.parameters())
        features: Tensor = self.model.encode_image(pixels.to(weight.device, weight.dtype), normalize=False)
        return features.float()

    def encode_patches(self, pixels: Tensor) -> PatchFeatures:
        """Return what the vector of one image is made of: see `openclip_patches`."""
        normalised = self.transform.normalise(pixels[None].to(self.device))
        assert isinstance(normalised, Tensor)
        return self.patches_of_square(normalised)

    def patches_of_square(self, pixels: Tensor) -> PatchFeatures:
        """Return the same of normalised pixels float32 [1, 3, H, W]."""
        weight = next(self.model.visual.parameters())
        vectors, exact = patch_vectors(self.model.visual, pixels.to(weight.device, weight.dtype))
        whole = OpenClipBackbone.encode_images(self, pixels)
        # Towers of timm are of many kinds: what is called exact here is so, or is not given at all.
        if exact and (vectors.mean(dim=(0, 1)) - whole[0]).norm() > _NEAR[self.precision] * whole.norm():
            raise InputError(
                f"{self.spec.name} pools its patches in a way of its own, which is not known here."
            )
        return PatchFeatures(vectors, whole, exact)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Return int64 [B, L]; texts that are too long are cut, with one warning that counts them."""
        return self.tokenize_prompts([(text,) for text in texts]).ids

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Return float32 [B, D], un-normalised, of token ids int64 [B, L]."""
        with shortened(self.model, tokens) as (model, read):
            features: Tensor = model.encode_text(read.to(self.device), normalize=False)
        return features.float()

    def tokenize_prompts(self, prompts: Sequence[Prompt]) -> PromptTokens:
        """Return ids and word mask; over-long prompts lose text, with one warning that counts them."""
        tokens, cut = self.prompt_tokenizer(prompts)
        self.count_cuts(cut, len(prompts))
        return tokens

    def encode_prompts(self, prompt_tokens: PromptTokens, words: Tensor) -> Tensor:
        """Return float32 [B, D] of prompts with `words` [B, T] in their places; differentiable in `words`."""
        ids, word_mask = prompt_tokens
        with pseudo_words(self._embedding, word_mask.to(self.device), words.to(self.device)):
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
