"""Prompt directional vectors: Tursun et al., arXiv 2502.07215 (WACV 2026).

With Δ = T_comp − T_ref, the edit as a direction in embedding space:
PDV-T = T_ref + α_T·Δ,  PDV-I = V_ref + α_I·Δ,  PDV-F = (1 − β)·PDV-I + β·PDV-T.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Literal

import torch
from torch import Tensor

from mmret.composition.features import ComposedFeatures, check_same_shape, l2_normalise
from mmret.errors import InputError

KNOBS = ("alpha_text", "alpha_image", "beta")

AUTOMATIC_RANGE = (-0.5, 2.0)
"""Automatic α_image is clipped to the range of α_image that the paper sweeps."""

NO_EDIT = 1e-6
"""Two unit texts closer than this are one text to float32: Δ is rounding noise and has no direction."""

Alpha = float | Tensor


def prompt_directional_vectors(
    reference_image: Tensor,
    reference_text: Tensor,
    composed_text: Tensor,
    *,
    alpha_text: Alpha = 1.0,
    alpha_image: Alpha = 1.0,
    beta: Alpha = 1.0,
) -> Tensor:
    """PDV-F, the query vectors of the paper.

    The three inputs are L2-normalised first; PDV-T and PDV-I are **not** re-normalised; only the result is
    (the authors' reference function). PDV-T is written (1 − α)·T_ref + α·T_comp, in which nothing cancels,
    so that α_text = β = 1 returns the normalised composed text itself, whatever the other values.

    Args:
        reference_image: V_ref [B, D].
        reference_text: T_ref [B, D], the text encoding with an empty edit.
        composed_text: T_comp [B, D], the text encoding with the edit.
        alpha_text: α_T, a number or one per query [B].
        alpha_image: α_I, a number or one per query [B].
        beta: β, a number or one per query [B]: 0 is PDV-I alone, 1 is PDV-T alone.

    Returns:
        [B, D], L2-normalised, float32 (float64 if the inputs are). A sum that vanishes stays zero.

    Raises:
        InputError: if the shapes differ, or a knob is neither a finite number nor [B].
    """
    check_same_shape(reference_image, reference_text, composed_text)
    image, reference, composed = map(l2_normalise, (reference_image, reference_text, composed_text))
    text_step = _column("alpha_text", alpha_text, composed)
    image_step = _column("alpha_image", alpha_image, composed)
    share = _column("beta", beta, composed)
    text_side = (1 - text_step) * reference + text_step * composed
    image_side = image + image_step * (composed - reference)
    return l2_normalise((1 - share) * image_side + share * text_side)


def automatic_alpha_image(
    reference_image: Tensor,
    reference_text: Tensor,
    composed_text: Tensor,
    *,
    alpha_text: Alpha = 1.0,
    bounds: tuple[float, float] = AUTOMATIC_RANGE,
) -> Tensor:
    """The α_image that brings PDV-I closest to PDV-T: argmin over α of ‖PDV-T − PDV-I(α)‖.

    The paper searches it by Nelder–Mead; it is a least-squares problem in one unknown, solved by
    ⟨T_ref + α_T·Δ − V_ref, Δ⟩ / ‖Δ‖² on the normalised features. The quotient grows without bound as Δ
    shrinks, so it is clipped to `bounds`; where Δ = 0 (‖Δ‖ ≤ `NO_EDIT`) every α gives the same PDV-I, and
    the answer is 1, clipped.

    Args:
        reference_image: V_ref [B, D].
        reference_text: T_ref [B, D].
        composed_text: T_comp [B, D].
        alpha_text: α_T, a number or one per query [B].
        bounds: the lowest and the highest α_image to return.

    Returns:
        [B], float32 (float64 if the inputs are); computed in float64.

    Raises:
        InputError: as `prompt_directional_vectors`; or if `bounds` are not in order.
    """
    check_same_shape(reference_image, reference_text, composed_text)
    if not bounds[0] <= bounds[1]:
        raise InputError(f"the bounds of alpha_image are {bounds}; give the lower one first.")
    image, reference, composed = (
        l2_normalise(features.double()) for features in (reference_image, reference_text, composed_text)
    )
    delta = composed - reference
    text_side = reference + _column("alpha_text", alpha_text, composed) * delta
    squared = delta.square().sum(-1)
    solution = ((text_side - image) * delta).sum(-1) / squared.clamp_min(torch.finfo(torch.float64).tiny)
    solution = torch.where(squared <= NO_EDIT**2, torch.ones_like(solution), solution)
    dtype = torch.float64 if composed_text.dtype == torch.float64 else torch.float32
    return solution.clamp(*bounds).to(dtype)


def _column(name: str, value: Alpha, like: Tensor) -> Tensor:
    """A knob as a tensor that broadcasts against `like` [B, D]: a scalar, or [B, 1] for one value a query."""
    knob = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    if knob.shape not in (torch.Size([]), torch.Size([len(like)])) or not bool(torch.isfinite(knob).all()):
        raise InputError(
            f"{name} has the shape {tuple(knob.shape)} or a value that is not finite; "
            f"give a finite number or one per query ({len(like)})."
        )
    return knob if knob.ndim == 0 else knob[:, None]


@dataclass(frozen=True, repr=False)
class PDV:
    """One setting of PDV's three knobs, as a value: its `str`, its `repr` and its name in YAML are one text.

    >>> PDV(1.4, "auto", 0.75)
    PDV(alpha_text=1.4, alpha_image=auto, beta=0.75)

    Attributes:
        alpha_text: α_T, the step along the edit from the reference text.
        alpha_image: α_I, the step along the edit from the reference image, or "auto"
            (`automatic_alpha_image`, per query).
        beta: β, the share of the text side.

    Raises:
        InputError: if a knob is not a finite number.
    """

    alpha_text: float = 1.0
    alpha_image: float | Literal["auto"] = 1.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        for name in KNOBS:
            value = getattr(self, name)
            if (name, value) != ("alpha_image", "auto"):
                object.__setattr__(self, name, _number(name, value))

    def __str__(self) -> str:
        knobs = (
            f"{name}={value if isinstance(value, str) else format(value, '.12g')}"
            for name, value in self.to_dict().items()
        )
        return f"PDV({', '.join(knobs)})"

    __repr__ = __str__

    def __call__(self, features: object) -> Tensor:
        """The query vectors [B, D] of this setting, L2-normalised.

        Raises:
            InputError: if `features` are no `ComposedFeatures` (image-only, text-only and sums have no reference
                text, so PDV has nothing to act on).
        """
        if not isinstance(features, ComposedFeatures):
            raise InputError(
                "PDV needs reference-image, reference-text and composed-text features, and this composer gives "
                "one vector a query or scores; use pseudo-word, caption-edit or ldre, or leave PDV out."
            )
        return prompt_directional_vectors(
            features.reference_image,
            features.reference_text,
            features.composed_text,
            alpha_text=self.alpha_text,
            alpha_image=self.alpha_image_for(features),
            beta=self.beta,
        )

    def alpha_image_for(self, features: ComposedFeatures) -> Alpha:
        """α_I as a number, or solved for each query [B] when it is "auto"."""
        if not isinstance(self.alpha_image, str):
            return self.alpha_image
        return automatic_alpha_image(
            features.reference_image,
            features.reference_text,
            features.composed_text,
            alpha_text=self.alpha_text,
        )

    def to_dict(self) -> dict[str, float | str]:
        """The three knobs, for a record; `PDV.from_spec` reads it back."""
        return asdict(self)

    @classmethod
    def from_spec(cls, spec: str | Mapping[str, float | str] | PDV) -> PDV:
        """A setting from its text form, from a mapping of knobs (YAML), or from itself.

        Raises:
            InputError: if the text or a knob's name is not one of PDV's.
        """
        if isinstance(spec, PDV):
            return spec
        knobs = _parse(spec) if isinstance(spec, str) else dict(spec)
        unknown = sorted(set(knobs) - set(KNOBS))
        if unknown:
            raise InputError(f"PDV has no {', '.join(unknown)}; its knobs are {', '.join(KNOBS)}.")
        return cls(**knobs)  # type: ignore[arg-type]  # checked and converted in __post_init__


def _number(name: str, value: object) -> float:
    """`value` as a finite float, or an `InputError` that names the knob."""
    try:
        number = float(value)  # type: ignore[arg-type]  # anything may stand in a YAML file
    except (TypeError, ValueError):
        number = float("nan")
    if not isfinite(number):
        raise InputError(f"PDV's {name} is {value!r}; give a finite number (or auto for alpha_image).")
    return number


def _parse(text: str) -> dict[str, float | str]:
    """The knobs of "PDV(alpha_text=1.4, …)"; a knob that is left out keeps its default."""
    match = re.fullmatch(r"\s*PDV\((.*)\)\s*", text, flags=re.IGNORECASE)
    pairs = [part.split("=") for part in match[1].split(",") if part.strip()] if match else [[]]
    if any(len(pair) != 2 for pair in pairs):
        raise InputError(
            f"{text!r} is not a PDV setting such as PDV(alpha_text=1.4, alpha_image=auto, beta=0.75)."
        )
    return {name.strip(): value.strip() for name, value in pairs}
