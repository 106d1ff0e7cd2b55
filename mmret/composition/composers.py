"""How a composed query becomes vectors: the zero-shot methods, as small callables on features.

A composer is called with a backbone and a `QueryBatch`. Pseudo-word and caption methods return the three
`ComposedFeatures` on which PDV acts; the simple baselines return one vector per query, [B, D]; what needs the
gallery, or scores similarities, is in `mmret.composition.scores`.

Several texts of one query (both orders of FashionIQ's captions) are encoded one by one, normalised, averaged and
re-normalised, as SEARLE does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, get_args

import torch
from torch import Tensor

from mmret.backbones.prompt import fill
from mmret.composition.caption_edit import CaptionEdits
from mmret.composition.encoding import (
    TextBackbone,
    average_alternatives,
    average_raw,
    encode_prompts,
    encode_texts,
)
from mmret.composition.features import ComposedFeatures, QueryBatch, captions_of, l2_normalise
from mmret.composition.late_interaction import MultiVectorQueries, multi_vector_queries
from mmret.composition.phi import Phi
from mmret.composition.phi_files import load_phi
from mmret.composition.scores import Composed
from mmret.composition.word_files import PseudoWords
from mmret.errors import InputError

SumMode = Literal["normalised", "raw"]

TEMPLATES = {
    "pic2word": "a photo of {word} , {text}",
    "searle": "a photo of {word} that {text}",
    "lincir": "a photo of {word} that {text}",
}
"""The prompt of the composed query in each method's official evaluation (CIRR, CIRCO, FashionIQ)."""


class Composer(Protocol):
    """What every composer is; `takes_pdv` tells whether its queries become `ComposedFeatures`."""

    name: ClassVar[str]
    takes_pdv: ClassVar[bool]

    def __call__(self, backbone: TextBackbone, batch: QueryBatch, /) -> Composed:
        """The queries' features, without gradients."""

    def describe(self) -> dict[str, Any]:
        """What decides the result, as plain values, equal for equal composers: for records."""


@dataclass(frozen=True)
class ImageOnly:
    """The reference image alone."""

    name: ClassVar[str] = "image-only"
    takes_pdv: ClassVar[bool] = False

    def __call__(self, backbone: TextBackbone, batch: QueryBatch) -> Tensor:
        """The normalised features [B, D] of the reference images; the backbone is not asked."""
        return l2_normalise(batch.reference_image)

    def describe(self) -> dict[str, Any]:
        """The name."""
        return {"name": self.name}


@dataclass(frozen=True)
class TextOnly:
    """The relative caption alone."""

    name: ClassVar[str] = "text-only"
    takes_pdv: ClassVar[bool] = False

    @torch.no_grad()
    def __call__(self, backbone: TextBackbone, batch: QueryBatch) -> Tensor | MultiVectorQueries:
        """The normalised features [B, D] of the relative captions, or several of each where the backbone gives them."""
        if getattr(backbone.spec, "multi_vector", False):
            return multi_vector_queries(backbone, batch)
        return average_alternatives(encode_texts(backbone, captions_of(batch)))

    def describe(self) -> dict[str, Any]:
        """The name."""
        return {"name": self.name}


@dataclass(frozen=True)
class Sum:
    """Image plus text feature, in one of the two definitions that go by this name.

    "normalised": norm(norm(i) + norm(t)), Pic2Word's. "raw": .5·i + .5·t of the un-normalised features,
    GeneCIS's, **not** normalised (a search does that); here several texts are averaged un-normalised.

    Raises:
        InputError: if `mode` is neither.
    """

    mode: SumMode = "normalised"
    name: ClassVar[str] = "sum"
    takes_pdv: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.mode not in get_args(SumMode):
            raise InputError(f"there is no sum {self.mode!r}; the two are {' and '.join(get_args(SumMode))}.")

    @torch.no_grad()
    def __call__(self, backbone: TextBackbone, batch: QueryBatch) -> Tensor:
        """The sum [B, D] of the mode's definition."""
        texts = encode_texts(backbone, captions_of(batch))
        image = batch.reference_image.to(texts[0].device)
        if self.mode == "raw":
            return 0.5 * image.float() + 0.5 * average_raw(texts)
        return l2_normalise(l2_normalise(image) + average_alternatives(texts))

    def describe(self) -> dict[str, Any]:
        """Name and mode."""
        return {"name": self.name, "mode": self.mode}


class _WordComposer(ABC):
    """A word of the reference image stands in the text, by position; whose word it is, subclasses say."""

    takes_pdv: ClassVar[bool] = True

    def __init__(self, template: str, reference_template: str) -> None:
        self.template = TEMPLATES.get(template, template)
        self.reference_template = reference_template
        check_places(self.template, "{word}", "{text}")
        check_places(reference_template, "{word}")

    @torch.no_grad()
    def __call__(self, backbone: TextBackbone, batch: QueryBatch) -> ComposedFeatures:
        """The three features, φ without dropout.

        Raises:
            InputError: if the words do not fit the backbone or are missing, or a query has no text.
        """
        captions = captions_of(batch)
        words = self._words(backbone, batch)
        composed = [[fill(self.template, text) for text in alternatives] for alternatives in captions]
        reference = [[fill(self.reference_template)]] * len(batch)
        reference_text = average_alternatives(encode_prompts(backbone, reference, words))
        composed_text = average_alternatives(encode_prompts(backbone, composed, words))
        return ComposedFeatures(batch.reference_image.to(composed_text.device), reference_text, composed_text)

    @abstractmethod
    def _words(self, backbone: TextBackbone, batch: QueryBatch) -> Tensor:
        """Pseudo-words [B, T] of the batch's reference images."""

    def _templates(self) -> dict[str, str]:
        return {"template": self.template, "reference_template": self.reference_template}


class PseudoWord(_WordComposer):
    """Pic2Word, SEARLE, LinCIR: φ makes the word.

    Args:
        phi: the network, the path of its file, or a released one's name (see `load_phi`).
        template: the prompt of the composed query, with `{word}` and `{text}`, or a method's name in `TEMPLATES`
            (by default SEARLE's and LinCIR's).
        reference_template: the prompt of the reference alone, with `{word}`: PDV's T_ref.

    Raises:
        InputError: if a template lacks its places, or the file is not a φ.
    """

    name: ClassVar[str] = "pseudo-word"

    def __init__(
        self, phi: Phi | str | Path, template: str = "searle", reference_template: str = "a photo of {word}"
    ) -> None:
        super().__init__(template, reference_template)
        self.phi = phi if isinstance(phi, Phi) else load_phi(phi)

    def _words(self, backbone: TextBackbone, batch: QueryBatch) -> Tensor:
        self.phi.check_backbone(backbone.spec.name, backbone.spec.width, backbone.token_width)
        return self.phi.infer(batch.reference_image)

    def describe(self) -> dict[str, Any]:
        """Name, templates, and φ's widths, backbone and digest."""
        return {"name": self.name, **self._templates(), "phi": self.phi.describe()}


class InvertedWord(_WordComposer):
    """SEARLE-OTI: the word was found for each reference image by optimisation (`mmret oti`), and lies in a file.

    Args:
        words: the words, or the path of their file.
        template: the prompt of the composed query, as of `PseudoWord`.
        reference_template: the prompt of the reference alone, with `{word}`: PDV's T_ref.

    Raises:
        InputError: if a template lacks its places, or the file holds no words.
    """

    name: ClassVar[str] = "oti"

    def __init__(
        self,
        words: PseudoWords | str | Path,
        template: str = "searle",
        reference_template: str = "a photo of {word}",
    ) -> None:
        super().__init__(template, reference_template)
        self.words = words if isinstance(words, PseudoWords) else PseudoWords.load(words)

    def _words(self, backbone: TextBackbone, batch: QueryBatch) -> Tensor:
        self.words.check_backbone(backbone.spec.name, backbone.fingerprint())
        return self.words.rows(batch.references)

    def describe(self) -> dict[str, Any]:
        """Name, templates, and the words' digest and how they were made."""
        return {"name": self.name, **self._templates(), "words": self.words.describe()}


class CaptionEdit:
    """CIReVL: captions of the reference and their edits from a file, encoded as they stand.

    T_ref is the raw caption, with no template, and T_comp the edited one. Several of each become one vector, their
    mean. LDRE weighs its fifteen instead: see `mmret.composition.ldre`.

    Args:
        captions: path of a JSON file, or its content; the layouts are those of `CaptionEdits.parse`.
        average: "normalised" averages normalised features; "raw" un-normalised ones, as SEIZE does. Both
            normalise the mean.
        ids: query ids in the order of CIReVL's parallel lists, where the file has none.

    Raises:
        InputError: if the file cannot be read, a record is incomplete, or `average` is neither.
    """

    name: ClassVar[str] = "caption-edit"
    takes_pdv: ClassVar[bool] = True

    def __init__(
        self,
        captions: str | Path | Mapping[str, Any] | Sequence[Any],
        average: SumMode = "normalised",
        ids: Sequence[str] | None = None,
    ) -> None:
        if average not in get_args(SumMode):
            raise InputError(
                f"there is no average {average!r}; the two are {' and '.join(get_args(SumMode))}."
            )
        self.edits = CaptionEdits.load(captions, ids)
        self.average: SumMode = average

    @torch.no_grad()
    def __call__(self, backbone: TextBackbone, batch: QueryBatch) -> ComposedFeatures:
        """The three features.

        Raises:
            InputError: naming every query of the batch that has no captions, or another query's.
        """
        self.edits.check(batch.ids, batch.texts)
        pairs = [self.edits.pairs[query_id] for query_id in batch.ids]
        average = average_raw if self.average == "raw" else average_alternatives
        reference = average(encode_texts(backbone, [pair.reference for pair in pairs]))
        composed = average(encode_texts(backbone, [pair.composed for pair in pairs]))
        return ComposedFeatures(batch.reference_image.to(composed.device), reference, composed)

    def describe(self) -> dict[str, Any]:
        """Name, the kind of average, the captions' file name and a digest of their content."""
        captions = {"captions": self.edits.where, "sha256": self.edits.digest()}
        return {"name": self.name, "average": self.average, **captions}


def check_places(template: str, *places: str) -> None:
    """Raise `InputError` unless the template holds every place, such as `{word}` and `{text}`."""
    absent = [place for place in places if place not in template]
    if absent:
        raise InputError(f"the template {template!r} lacks {' and '.join(absent)}.")
