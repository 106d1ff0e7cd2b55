"""Page encoders: vision-language models of transformers that give vectors of pages and of queries."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from mmret.backbones import vlm_specs
from mmret.backbones.adapters import AdapterSettings, adapter_parameters, add_adapter
from mmret.backbones.base import Backbone, Features, PatchFeatures, TokenVectors, single
from mmret.backbones.pooling import Pooling, token_vectors
from mmret.backbones.preprocess import ImageTransform, Pixels
from mmret.backbones.resizing import TILE, PageTransform
from mmret.backbones.spec import TOKENS, BackboneSpec
from mmret.backbones.vlm_inputs import NONE, Inputs
from mmret.backbones.vlm_loading import Parts, load_parts
from mmret.backbones.vlm_specs import VlmSpec

_TEXTS_AT_ONCE = 32


class VlmBackbone(Backbone):
    """One model for pages and queries: a prompt around each, the states behind the last norm, a pooling.

    A vector does not depend on the batch that its input stood in: padding is masked and takes no position. Pages are
    a list of uint8 tensors [3, H, W] of any sizes (`transform` gives them), on any device.
    """

    images_at_once = 4

    def __init__(self, spec: VlmSpec, parts: Parts, precision: str = "fp32") -> None:
        super().__init__(spec, precision)
        self.prompts = {"document": spec.document_prompt, "query": spec.query_prompt}
        self.inputs = Inputs(parts.family, parts.processor, spec.padding_side)
        self.model, self.projection = parts.model, parts.projection
        self.pooling = Pooling(spec.pooling, spec.width, parts.latent)

    @classmethod
    def describe(cls, name: str) -> VlmSpec:
        """Return the spec of a name: see `vlm_specs`."""
        return vlm_specs.describe(name)

    @classmethod
    def load(cls, spec: BackboneSpec, precision: str, device: str) -> Self:
        """Read the model, its processor and its adapter."""
        assert isinstance(spec, VlmSpec)
        parts = load_parts(spec, precision, device)
        backbone = cls(vlm_specs.as_loaded(spec), parts, precision)
        return (backbone if spec.quantise else backbone.to(device)).freeze()

    @classmethod
    def transform_of(cls, spec: BackboneSpec) -> ImageTransform:
        """Return the resizing of whole pages."""
        return PageTransform(spec.preprocess, spec.image_size or TILE)

    @classmethod
    def check_preprocess(cls, spec: BackboneSpec, name: str) -> None:
        """Raise `InputError` unless `name` is a resizing of whole pages, to sides that the model takes."""
        assert isinstance(spec, VlmSpec)
        vlm_specs.check_resizing(spec, name)

    def encode_images(self, pixels: Pixels) -> Tensor:
        """Return float32 [B, D], un-normalised, of B pages uint8 [3, H, W]."""
        return single(self.encode_documents(pixels), self.spec.name)

    def encode_documents(self, pixels: Pixels) -> Features:
        """Return float32 [B, D], un-normalised, or `TokenVectors`, of B pages uint8 [3, H, W].

        A pooling that clusters tokens (`tokens-3`) keeps all of them while the model is trained.
        """
        pages = [page.to(self.device) for page in pixels]
        inputs = self.inputs.of_images(self.prompts["document"], pages)
        if self._straddles(inputs["attention_mask"]):
            return joined([self.encode_documents([page]) for page in pages])
        return self._pooled(inputs, "document")

    def encode_patches(self, pixels: Tensor) -> PatchFeatures:
        """Return what the features of one page uint8 [3, H, W] are made of, token by token as they lie on it.

        With `tokens` they are those that are searched, before any clustering. Of one vector a page: of `mean` and
        `latent-attention` what each token brings to the mean, exactly; of `last`, which takes the state of a token
        behind the page, the page's tokens in the same layer, behind the same norm: an approximation.

        Raises `InputError`, before the model is asked, for families whose tokens do not lie on a grid.
        """
        page = pixels.to(self.device)
        inputs = self.inputs.of_images(self.prompts["document"], [page])
        image = inputs["input_ids"][0] == self.inputs.image_id
        places = self.inputs.places(page, int(image.sum())).to(self.device)
        states, mask = self.states(inputs), inputs["attention_mask"].bool()
        if self.pooling.family == TOKENS:
            tokens = token_vectors(states, mask, self.spec.width)
            return PatchFeatures(tokens.vectors[image][places], tokens, exact=self.pooling.factor == 1)
        skipped = self._skipped("document")
        whole = single(self.pooling(states, mask, skipped), self.spec.name)
        vectors = self.pooling.of_tokens(states)[0, image][places]
        if not self.pooling.averages:
            return PatchFeatures(vectors, whole, exact=False)
        shares = vectors * (places.numel() / (len(image) - skipped))
        return PatchFeatures(shares, whole, exact=True, elsewhere=whole[0] - shares.mean(dim=(0, 1)))

    def query_tokens(self, text: str) -> list[str]:
        """Return the tokens of a prompted query, as people read them: one for each of its vectors."""
        ids = self.tokenize([text])[0].tolist()
        return [self.inputs.tokenizer.decode([id]) for id in ids]

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Return the prompted queries' ids, int64 [B, L], padded by −1; nothing is cut."""
        return self.inputs.ids(self.prompts["query"], texts)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Return float32 [B, D], un-normalised, of token ids int64 [B, L] of `tokenize`."""
        return single(self.encode_queries(tokens), self.spec.name)

    def encode_queries(self, tokens: Tensor) -> Features:
        """Return float32 [B, D], un-normalised, or `TokenVectors`, of token ids int64 [B, L] of `tokenize`."""
        return joined([self._encode_block(block) for block in torch.split(tokens, _TEXTS_AT_ONCE)])

    def states(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the states [B, L, H] behind the language model's last norm, projected where the model projects.

        They are the base model's `last_hidden_state`. `hidden_states[-1]` of a model that generates is not the same
        everywhere: in some versions of transformers it is taken before the norm.
        """
        cast = {key: self._cast(value) for key, value in inputs.items()}
        states: Tensor = self.model(**cast, use_cache=False, return_dict=True).last_hidden_state
        if self.projection is None:
            return states
        projected: Tensor = self.projection(states.to(next(self.projection.parameters()).dtype))
        return projected

    def unfreeze(self) -> Self:
        """Let the weights be trained: with an adapter, those of the adapter alone."""
        adapter = adapter_parameters(self.model)
        if not adapter:
            return super().unfreeze()
        self.frozen = False
        self.requires_grad_(False)
        for parameter in adapter:
            parameter.requires_grad_(True)
        return self.train()

    def adapt(self, settings: AdapterSettings) -> Self:
        """Put a new adapter into the maps that `settings.targets` names and let it be trained, and nothing else.

        By default they lie in the language model and, for most families, in the vision tower (`adapters.DSE_TARGETS`).
        No vector changes until it is trained. Raises `InputError` where no map has such a name.
        """
        add_adapter(self.model, settings)
        return self.to(self.device).unfreeze()

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @cached_property
    def _instruction(self) -> dict[str, int]:
        """How many tokens of a prompt stand before its page or its query: `latent-attention` leaves them out."""
        places = {"document": "{image}", "query": "{text}"}
        return {
            kind: self.inputs.length(self.prompts[kind].partition(place)[0]) for kind, place in places.items()
        }

    def _encode_block(self, tokens: Tensor) -> Features:
        length = int((tokens != NONE).sum(dim=1).max()) if len(tokens) else 1
        inputs = self.inputs.of_ids(tokens[:, :length].to(self.device), self.prompts["query"])
        if self._straddles(inputs["attention_mask"]):
            return joined([self._encode_block(row[None]) for row in tokens])
        return self._pooled(inputs, "query")

    def _straddles(self, mask: Tensor) -> bool:
        """Whether some rows are longer than LongRoPE's first range, and others are not.

        The model would turn all of them by the frequencies of the longest: a vector would depend on its batch.
        """
        limit = longrope_limit(self.model)
        lengths = mask.sum(dim=1)
        return limit is not None and bool((lengths > limit).any() and (lengths <= limit).any())

    def _pooled(self, inputs: dict[str, Tensor], kind: str) -> Features:
        mask = inputs["attention_mask"].bool()
        clusters = kind == "document" and not self.training  # clusters have no gradient
        features: Features = self.pooling(self.states(inputs), mask, self._skipped(kind), cluster=clusters)
        return features

    def _skipped(self, kind: str) -> int:
        """How many first tokens a mean is not of."""
        return self._instruction[kind] if self.pooling.latent is not None else 0

    def _cast(self, value: Any) -> Any:
        """Pixels in the number format of the model; ids and masks as they are."""
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.to(self.device, next(self.model.parameters()).dtype)
        return value.to(self.device) if isinstance(value, Tensor) else value


def longrope_limit(model: Any) -> int | None:
    """Return how many tokens a model of LongRoPE takes with its first set of frequencies (Phi-3, Phi-4), else None."""
    rope = getattr(getattr(model, "config", None), "rope_parameters", None) or {}
    limit = rope.get("original_max_position_embeddings") if rope.get("rope_type") == "longrope" else None
    return None if limit is None else int(limit)


def joined(parts: Sequence[Features]) -> Features:
    """Return the features of several batches as one's."""
    if isinstance(parts[0], TokenVectors):
        return TokenVectors(*(torch.cat(column) for column in zip(*parts, strict=True)))
    return torch.cat([part for part in parts if isinstance(part, Tensor)])
