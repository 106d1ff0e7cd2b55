"""Scorings: what may be done with the three features of a query beside PDV, as values on similarities.

A scoring is to a table's row what PDV is: it takes the features of any base method. SEIZE is published; AdaST is
known here by its idea alone, and the scoring of that name says what it does instead of the paper's formula.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from inspect import signature
from math import isfinite
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from mmret.composition.features import ComposedFeatures, l2_normalise
from mmret.composition.pdv import automatic_alpha_image
from mmret.composition.scores import Doubles, Settled, SimilarityScores
from mmret.errors import InputError, nearest


class Transform(Protocol):
    """What makes queries of the three features: PDV, or a scoring."""

    def __call__(self, features: Settled, /) -> Settled:
        """One vector a query, or what scores them."""


def _check_numbers(scoring: Any) -> None:
    for name, value in asdict(scoring).items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise InputError(f"{scoring.name}'s {name} is {value!r}; give a finite number.")


@dataclass(frozen=True)
class Seize:
    """SEIZE's score (Yang et al., ACM MM 2024): a document rises with what the edit brings it nearer.

    score = after + negative·min(d, 0) + positive·max(d, 0), with d = after − before, where `after` and `before` are a
    document's similarities to T_comp and T_ref. With negative = positive = α − 1 it ranks as PDV-T does.

    The published method feeds it means of fifteen captions, averaged before they are normalised (`{name:
    caption-edit, average: raw}`), and takes the reference out of the ranking (`remove_reference`).

    Attributes:
        positive, negative: The two factors; the paper's are (.13, 2.1) on CIRCO and (.22, 1.0) on CIRR.
    """

    positive: float
    negative: float
    name: ClassVar[str] = "seize"

    def __post_init__(self) -> None:
        _check_numbers(self)

    def __call__(self, features: Settled) -> SimilarityScores:
        """The scores of all queries; InputError if they have no reference text."""
        three = _three(self.name, features)
        vectors = torch.stack([three.reference_text, three.composed_text], dim=1)
        return SimilarityScores(vectors, vectors.new_empty(len(vectors), 0), self.rule)

    def rule(self, similarities: Doubles, parameters: Doubles) -> Doubles:
        """Scores of the similarities to (T_ref, T_comp)."""
        before, after = similarities
        gain = after - before
        scores: Doubles = after + self.negative * np.minimum(gain, 0) + self.positive * np.maximum(gain, 0)
        return scores


SEIZE_PRESETS = {"circo": Seize(0.13, 2.1), "cirr": Seize(0.22, 1.0)}
"""The published factors by benchmark."""


@dataclass(frozen=True)
class AdaST:
    """An adaptive step and a penalty on documents that merely resemble the reference: AdaST's idea.

    The published formula is not known here; this is ours. The proxy is PDV-I, normalised, with the closed-form α_I
    of the query (`automatic_alpha_image`). A document that resembles the reference more than the proxy itself does
    has not been edited enough, and pays for the excess:

        score = ⟨proxy, d⟩ − penalty · max(0, ⟨V_ref, d⟩ − ⟨V_ref, proxy⟩).

    The excess of the reference itself is the largest there is, which keeps it from rank 1.

    Attributes:
        penalty: Weight of the excess, at least 0; 1 was fixed before any measurement.
    """

    penalty: float = 1.0
    name: ClassVar[str] = "adast"

    def __post_init__(self) -> None:
        _check_numbers(self)
        if self.penalty < 0:
            raise InputError(f"adast's penalty is {self.penalty}; give a number of 0 or more.")

    def __call__(self, features: Settled) -> SimilarityScores:
        """The scores of all queries; InputError if they have no reference text."""
        three = _three(self.name, features)
        proxy = self.proxy(three)
        likeness = (proxy * three.reference_image).sum(dim=-1, keepdim=True)
        return SimilarityScores(torch.stack([three.reference_image, proxy], dim=1), likeness, self.rule)

    def proxy(self, features: ComposedFeatures) -> Tensor:
        """PDV-I with each query's own α_I, [B, D], L2-normalised."""
        image, reference, composed = (
            features.reference_image,
            features.reference_text,
            features.composed_text,
        )
        alpha = automatic_alpha_image(image, reference, composed)[:, None]
        return l2_normalise(image + alpha * (composed - reference))

    def rule(self, similarities: Doubles, parameters: Doubles) -> Doubles:
        """Scores of the similarities to (V_ref, proxy) and of ⟨V_ref, proxy⟩."""
        reference, proxy = similarities
        scores: Doubles = proxy - self.penalty * np.maximum(reference - parameters[0], 0)
        return scores


SCORINGS: dict[str, Callable[..., Transform]] = {Seize.name: Seize, AdaST.name: AdaST}
"""Scorings by name, for YAML."""


def scoring_from_spec(spec: str | Mapping[str, Any]) -> Transform:
    """The scoring of a table's row: {name: seize, preset: circo}, {name: seize, positive: …, negative: …}, adast.

    Raises:
        InputError: another name, preset or argument.
    """
    arguments = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = str(arguments.pop("name", ""))
    if name not in SCORINGS:
        raise InputError(f"there is no scoring {name!r}{nearest(name, SCORINGS)}.")
    preset = arguments.pop("preset", None)
    if preset is not None:
        return _preset(name, str(preset), arguments)
    try:
        return SCORINGS[name](**arguments)
    except TypeError:
        known = ", ".join(signature(SCORINGS[name]).parameters)
        raise InputError(f"the scoring {name} takes {known}; it was given {arguments}.") from None


def _preset(name: str, preset: str, others: Mapping[str, Any]) -> Seize:
    if name != Seize.name or preset not in SEIZE_PRESETS or others:
        raise InputError(
            f"the scoring {name} has no preset {preset!r} with {dict(others)}; "
            f"seize alone has presets, {' and '.join(SEIZE_PRESETS)}, which take nothing else."
        )
    return SEIZE_PRESETS[preset]


def _three(name: str, features: Settled) -> ComposedFeatures:
    if isinstance(features, ComposedFeatures):
        return features
    raise InputError(
        f"the scoring {name} needs the features of a reference text, which this composer does not give; "
        "use pseudo-word, caption-edit or ldre, or leave the scoring out."
    )
