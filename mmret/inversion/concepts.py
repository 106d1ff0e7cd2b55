"""Concepts, phrases about them, and which concepts an image shows.

SEARLE (Baldrati et al., arXiv 2303.15247) keeps pseudo-words in the neighbourhood of real words: a phrase in which
the pseudo-word stands for one of the image's concepts must mean what the phrase means with the concept's own name.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from mmret.backbones.base import Backbone
from mmret.backbones.prompt import WORD, Prompt
from mmret.data import records
from mmret.embedding import embed_texts
from mmret.errors import InputError

TEMPLATES = tuple(
    f"{frame} {{word}}"
    for frame in (
        "a photo of", "a picture of", "an image of", "a snapshot of", "a view of", "a close-up of",
        "a wide shot of", "a photo of the", "a picture of one", "a detailed photo of", "a plain photo of",
        "a bright photo of", "a dark photo of", "a blurry photo of", "a sharp photo of", "a cropped photo of",
        "a small photo of", "a large photo of", "a colourful photo of", "a good photo of", "a poor photo of",
        "a photograph showing", "this is a photo of", "here we see",
    )
)  # fmt: skip
"""As many sentences as SEARLE draws from (24), in our own words."""

_CONCEPTS_AT_ONCE = 64


@dataclass(frozen=True)
class ConceptPhrases:
    """Concept → phrases about it, each of which contains the concept's name as words of their own.

    Raises:
        InputError: without any concept, for a concept without phrases, or a phrase that lacks its concept.
    """

    phrases: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        if not self.phrases:
            raise InputError("there is no concept; give a file of phrases by concept.")
        for concept, phrases in self.phrases.items():
            if not phrases:
                raise InputError(f"the concept {concept!r} has no phrases; write some or leave it out.")
            for phrase in phrases:
                phrase_prompt(concept, phrase)

    @classmethod
    def read(cls, source: str) -> "ConceptPhrases":
        """`miniature` (written by rule), or a JSON object concept → list of phrases; raises `InputError`."""
        if source == "miniature":
            from mmret.data.miniature import concept_phrases

            return cls(concept_phrases())
        content = records.read_json(source)
        if not isinstance(content, dict):
            raise InputError(f"{source} holds a {type(content).__name__} where concept → phrases is needed.")
        return cls({name: records.strings(value, name, source) for name, value in content.items()})

    @property
    def concepts(self) -> tuple[str, ...]:
        """The names, in the file's order."""
        return tuple(self.phrases)

    @cached_property
    def digest(self) -> str:
        """Sixteen hexadecimal digits, equal for equal phrases."""
        content = json.dumps({name: list(phrases) for name, phrases in self.phrases.items()}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def phrase_prompt(concept: str, phrase: str) -> Prompt:
    """The phrase with the pseudo-word in place of the concept's first mention (any case); raises `InputError`."""
    found = re.search(rf"(?<!\w){re.escape(concept)}(?!\w)", phrase, re.IGNORECASE)
    if found is None:
        raise InputError(f"the phrase {phrase!r} does not mention its concept {concept!r}.")
    return tuple(part for part in (phrase[: found.start()], WORD, phrase[found.end() :]) if part)


class ConceptBook:
    """The phrases with the concepts' features in a backbone's space: which concepts does an image show?

    A concept's feature is the mean of the normalised features of the templates that name it, as in zero-shot
    classification (Radford et al., arXiv 2103.00020, section 3.1.4).

    Args:
        backbone: with a text tower.
        phrases: by concept.
        templates: with `{word}`.
    """

    def __init__(
        self, backbone: Backbone, phrases: ConceptPhrases, templates: Sequence[str] = TEMPLATES
    ) -> None:
        self.phrases = phrases
        self.features = _concept_features(backbone, phrases.concepts, templates)

    def nearest(self, image_features: Tensor, count: int) -> list[tuple[str, ...]]:
        """For each row of [B, D], the `count` nearest concepts (or all, if there are fewer), nearest first."""
        names = self.phrases.concepts
        similarity = F.normalize(image_features.float().cpu(), dim=-1) @ self.features.T
        best = similarity.topk(min(count, len(names))).indices.tolist()
        return [tuple(names[row] for row in rows) for rows in best]


def _concept_features(backbone: Backbone, concepts: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Normalised features [C, D] on the CPU."""
    means = []
    for start in range(0, len(concepts), _CONCEPTS_AT_ONCE):
        block = concepts[start : start + _CONCEPTS_AT_ONCE]
        texts = [template.replace("{word}", concept) for concept in block for template in templates]
        features = F.normalize(torch.from_numpy(embed_texts(backbone, texts)), dim=-1)
        means.append(features.reshape(len(block), len(templates), -1).mean(dim=1))
    return F.normalize(torch.cat(means), dim=-1)
