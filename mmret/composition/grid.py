"""Grids of PDV settings, and the two knobs by which settings differ.

A ranking by PDV-F depends on α_text, α_image and β only through β and γ = (1 − β)·α_image + β·α_text: with
S_img, S_reftext and S_comptext the similarities of a document to V_ref, T_ref and T_comp, its score is

    (1 − β)·S_img + (β − γ)·S_reftext + γ·S_comptext,

up to the norm of PDV-F, which is positive and the same for all documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmret.composition.features import ComposedFeatures
from mmret.composition.pdv import PDV, automatic_alpha_image

DECIMALS = 9
"""Knobs that agree to this many decimals are one setting: a ranking can't tell them apart in float32."""


@dataclass(frozen=True)
class Grid:
    """All combinations of three lists of knobs; iterates over them as `PDV` values."""

    alpha_text: tuple[float, ...]
    alpha_image: tuple[float | Literal["auto"], ...]
    beta: tuple[float, ...]

    def __iter__(self) -> Iterator[PDV]:
        """The settings, β fastest."""
        return (PDV(*knobs) for knobs in product(self.alpha_text, self.alpha_image, self.beta))

    def __len__(self) -> int:
        return len(self.alpha_text) * len(self.alpha_image) * len(self.beta)


def _steps(first: float, last: float, step: float) -> tuple[float, ...]:
    """`first`, `first + step`, … to `last`, both included, without the drift of repeated addition."""
    return tuple(round(first + step * i, DECIMALS) for i in range(round((last - first) / step) + 1))


PAPER_GRID = Grid(_steps(-0.5, 3, 0.1), _steps(-0.5, 2, 0.1), _steps(0, 1, 0.05))
"""The paper's sweeps, crossed. It gives no step for β; the settings in its tables lie on multiples of .05."""

PLAIN_FUSION = Grid((1.0,), (0.0,), _steps(0, 1, 0.05))
"""The fair control: a weighted mean of reference image and composed text, tuned by β alone."""

GRIDS = {"paper": PAPER_GRID, "plain-fusion": PLAIN_FUSION}
"""Grids by name, for YAML."""


def distinct(settings: Iterable[PDV]) -> tuple[PDV, ...]:
    """The settings without those that rank as an earlier one does (same β and γ), in order.

    Of each such group the member whose steps α are nearest to 1, the base method's, stands for all.
    """
    groups: dict[tuple[float | str, ...], PDV] = {}
    for setting in settings:
        key = _key(setting)
        if key not in groups or _distance(setting) < _distance(groups[key]):
            groups[key] = setting
    return tuple(groups.values())


def _key(setting: PDV) -> tuple[float | str, ...]:
    """What decides the setting's rankings. An automatic α_image depends on the query and on α_text."""
    beta = round(setting.beta, DECIMALS)
    if beta == 1:
        return beta, round(setting.alpha_text, DECIMALS)
    if isinstance(setting.alpha_image, str):
        return beta, "auto", round(setting.alpha_text, DECIMALS)
    gamma = (1 - setting.beta) * setting.alpha_image + setting.beta * setting.alpha_text
    return beta, round(gamma, DECIMALS)


def _distance(setting: PDV) -> float:
    """How far the steps lie from the base method's."""
    image = 1.0 if isinstance(setting.alpha_image, str) else setting.alpha_image
    return abs(setting.alpha_text - 1) + abs(image - 1)


def knobs(
    settings: Sequence[PDV], features: ComposedFeatures
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """β [S] and γ [S, Q] of each setting for each query; γ's columns differ only for automatic α_image."""
    beta = np.array([setting.beta for setting in settings], np.float64)
    gamma = np.empty((len(settings), len(features)), np.float64)
    solved: dict[float, NDArray[np.float64]] = {}
    for row, setting in enumerate(settings):
        image: float | NDArray[np.float64]
        if isinstance(setting.alpha_image, str):
            if setting.alpha_text not in solved:
                solved[setting.alpha_text] = _automatic(features, setting.alpha_text)
            image = solved[setting.alpha_text]
        else:
            image = setting.alpha_image
        gamma[row] = (1 - setting.beta) * image + setting.beta * setting.alpha_text
    return beta, gamma


def _automatic(features: ComposedFeatures, alpha_text: float) -> NDArray[np.float64]:
    """The automatic α_image of every query, [Q]."""
    solution = automatic_alpha_image(
        features.reference_image, features.reference_text, features.composed_text, alpha_text=alpha_text
    )
    return np.asarray(solution.double().cpu().numpy(), np.float64)


def weights(beta: NDArray[np.float64], gamma: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weights [S, 3] of the similarities to V_ref, T_ref and T_comp, of β [S] and γ [S]."""
    return np.stack([1 - beta, beta - gamma, gamma], axis=1)
