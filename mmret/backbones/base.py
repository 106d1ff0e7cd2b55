"""What every backbone is to the rest of the house."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from mmret.backbones.preprocess import ImageTransform, Pixels, build_transform, parse_name
from mmret.backbones.prompt import Prompt
from mmret.backbones.spec import BackboneSpec
from mmret.errors import InputError, InputWarning


class PromptTokens(NamedTuple):
    """Tokenised prompts: `ids` int64 [B, L], and `word_mask` bool [B, L], true where a pseudo-word goes."""

    ids: Tensor
    word_mask: Tensor

    def to(self, device: torch.device | str) -> "PromptTokens":
        """Return both tensors on `device`."""
        return PromptTokens(self.ids.to(device), self.word_mask.to(device))


class TokenVectors(NamedTuple):
    """Several L2-normalised vectors for each of B inputs: `vectors` float32 [ΣT, D], `lengths` int64 [B]."""

    vectors: Tensor
    lengths: Tensor

    def cpu(self) -> "TokenVectors":
        """Return both tensors in the computer's own memory."""
        return TokenVectors(self.vectors.cpu(), self.lengths.cpu())


Features = Tensor | TokenVectors
"""What a backbone gives for B inputs: one vector each, [B, D], or several (where `spec.multi_vector`)."""


class PatchFeatures(NamedTuple):
    """What a page's features are made of, place by place.

    `vectors` float32 [h, w, D] lie as their patches do, from the top left of what the model sees. `whole` are the
    page's features as `encode_documents` gives them. Where `exact` is true, the un-normalised [D] of one vector a page
    is the mean of `vectors` over all patches, plus `elsewhere` [D] (what tokens that lie nowhere on the page bring, if
    there are any); and of several vectors a page `vectors` are those of its patches.
    """

    vectors: Tensor
    whole: Features
    exact: bool
    elsewhere: Tensor | None = None


def single(features: Features, name: str) -> Tensor:
    """Return [B, D]; raises `InputError` for several vectors an input, of the backbone `name`."""
    if isinstance(features, TokenVectors):
        raise InputError(
            f"{name} gives every token a vector, where one an input is needed: choose another pooling."
        )
    return features


class Backbone(nn.Module, ABC):
    """A model that maps images, and usually texts, to vectors of one width D.

    All features are float32 [B, D] and **not** normalised (φ networks need them so). Inputs are moved to the
    model's device. A loaded backbone is frozen: in evaluation mode, whatever its parent module does, and
    without gradients for its weights; gradients still flow through it to `words` of `encode_prompts`.
    `transform` (PIL image → float32 [3, H, W]) can be pickled without the model.

    `encode_documents` and `encode_queries` are what a search asks: they also give several vectors each, where the
    pooling keeps those (`spec.multi_vector`), which `encode_images` and `encode_text` refuse.
    """

    has_text: bool = True
    images_at_once: int = 64
    """How many images a batch holds where nobody says otherwise."""

    def __init__(self, spec: BackboneSpec, precision: str = "fp32") -> None:
        super().__init__()
        self.spec = spec
        self.transform: ImageTransform = self.transform_of(spec)
        self.precision = precision
        self.frozen = False
        self.texts_read = self.texts_cut = 0
        self.warns_of_cuts = True

    @classmethod
    @abstractmethod
    def describe(cls, name: str) -> BackboneSpec:
        """Return the spec of one of this loader's names, without reading weights; raises `InputError`."""

    @classmethod
    @abstractmethod
    def load(cls, spec: BackboneSpec, precision: str, device: str) -> Self:
        """Return the frozen backbone of a spec on `device` ("cpu" or "cuda…"); raises `InputError`."""

    @classmethod
    def transform_of(cls, spec: BackboneSpec) -> ImageTransform:
        """Return what a backbone of this kind does with an image before it is encoded."""
        return build_transform(spec.preprocess, spec.image_size, spec.mean, spec.std, spec.interpolation)

    @classmethod
    def check_preprocess(cls, spec: BackboneSpec, name: str) -> None:
        """Raise `InputError` unless `name` is a preprocessing for the backbone of a spec."""
        parse_name(name)

    @classmethod
    def with_preprocess(cls, spec: BackboneSpec, name: str) -> BackboneSpec:
        """Return the spec of the same model with another preprocessing; raises `InputError`."""
        cls.check_preprocess(spec, name)
        return replace(spec, preprocess=name)

    @abstractmethod
    def encode_images(self, pixels: Tensor) -> Tensor:
        """Return the features float32 [B, D] of preprocessed images [B, 3, H, W]."""

    def encode_documents(self, pixels: Pixels) -> Features:
        """Return the features of a batch that `transform.pixels` and `transform.stack` gave, uint8."""
        stacked = pixels if isinstance(pixels, Tensor) else torch.stack(list(pixels))
        normalised = self.transform.normalise(stacked.to(self.device, non_blocking=True))
        assert isinstance(normalised, Tensor)
        return self.encode_images(normalised)

    def encode_patches(self, pixels: Tensor) -> PatchFeatures:
        """Return what the features of one image are made of; `pixels` uint8 [3, H, W] as `transform.pixels` gives them.

        Raises `InputError` where a model does not say.
        """
        raise InputError(f"{self.spec.name} does not say which part of a page its vector comes from.")

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Return the texts' token ids, int64 [B, L], padded; over-long texts are cut with a warning."""
        raise self._no_text()

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Return the features float32 [B, D] of token ids int64 [B, L]."""
        raise self._no_text()

    def query_tokens(self, text: str) -> list[str]:
        """Return the tokens of a query as people read them, where each has a vector of its own; else none."""
        return []

    def encode_queries(self, tokens: Tensor) -> Features:
        """Return the features of token ids int64 [B, L]."""
        return self.encode_text(tokens)

    def tokenize_prompts(self, prompts: Sequence[Prompt]) -> PromptTokens:
        """Return token ids and the pseudo-word's places; an over-long prompt loses text, never a word."""
        raise self._no_text()

    def encode_prompts(self, prompt_tokens: PromptTokens, words: Tensor) -> Tensor:
        """Return the features float32 [B, D] of prompts with `words` [B, T] in their places.

        The same word stands at every masked position of its prompt. Differentiable in `words`.
        """
        raise self._no_text()

    def count_cuts(self, cut: int, read: int) -> None:
        """Count texts as read, and as cut because they were too long; warn of them, unless a training does so later.

        A training reads batch after batch: it sets `warns_of_cuts` to False and calls `warn_of_cuts` at its end.
        """
        self.texts_read, self.texts_cut = self.texts_read + read, self.texts_cut + cut
        if self.warns_of_cuts:
            self.warn_of_cuts(cut, read)

    def warn_of_cuts(self, cut: int | None = None, read: int | None = None) -> None:
        """Warn, in one sentence, if any of the `read` texts were `cut` (by default: of all so far)."""
        cut, read = self.texts_cut if cut is None else cut, self.texts_read if read is None else read
        if cut:
            warnings.warn(
                f"{cut:,} of {read:,} texts are longer than the {self.spec.context_length} tokens that "
                f"{self.spec.name} reads, and were cut.",
                InputWarning,
                stacklevel=4,
            )

    @contextmanager
    def cuts_told_once(self) -> Iterator[None]:
        """Within: texts that are cut are counted over all batches, and warned of in one sentence at the end."""
        warned, cut, read = self.warns_of_cuts, self.texts_cut, self.texts_read
        self.warns_of_cuts = False
        try:
            yield
        finally:
            self.warns_of_cuts = warned
            if warned:
                self.warn_of_cuts(self.texts_cut - cut, self.texts_read - read)

    @property
    def token_width(self) -> int:
        """The width T of the text tower's token embeddings."""
        raise self._no_text()

    @property
    def logit_scale(self) -> float:
        """The factor (not its logarithm) on cosine similarities that the model was trained with."""
        raise self._no_text()

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.parameters()).device

    def fingerprint(self) -> dict[str, str]:
        """The store fingerprint of this backbone's vectors: its spec's, at its own precision."""
        return self.spec.fingerprint(self.precision)

    def freeze(self) -> Self:
        """Switch to evaluation for good, take gradients from the weights, return the backbone."""
        self.frozen = True
        return self.requires_grad_(False).eval()

    def unfreeze(self) -> Self:
        """Let the weights be trained: gradients, dropout and batch statistics awake; returns the backbone."""
        self.frozen = False
        return self.requires_grad_(True).train()

    def train(self, mode: bool = True) -> Self:
        """Change the mode, unless frozen: a parent's `train()` must not wake dropout in a frozen backbone."""
        return super().train(mode and not self.frozen)

    def _no_text(self) -> InputError:
        return InputError(
            f"backbone {self.spec.name} encodes images only: for texts and composed queries choose one "
            "with a text tower, such as clip-vit-b-32."
        )
