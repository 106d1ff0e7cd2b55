import numpy as np
import pytest
import torch

from mmret.composition import (
    GRIDS,
    PAPER_GRID,
    PDV,
    PLAIN_FUSION,
    ComposedFeatures,
    Grid,
    automatic_alpha_image,
)
from mmret.composition.grid import distinct, knobs, weights


def test_the_papers_grid() -> None:
    settings = list(PAPER_GRID)
    assert len(PAPER_GRID) == len(settings) == 36 * 26 * 21
    assert (settings[0], settings[-1]) == (PDV(-0.5, -0.5, 0), PDV(3, 2, 1))
    for published in (PDV(1.4, 1.4, 0.75), PDV(0.9, 1.1, 0.9), PDV(1.3, 1, 0.55), PDV()):
        assert published in settings
    assert set(GRIDS) == {"paper", "plain-fusion"}


def test_plain_fusion_is_a_weighted_mean_of_image_and_composed_text() -> None:
    for setting in PLAIN_FUSION:
        gamma = (1 - setting.beta) * setting.alpha_image + setting.beta * setting.alpha_text
        row = weights(np.array([setting.beta]), np.array([gamma]))[0]
        assert row == pytest.approx([1 - setting.beta, 0, setting.beta])
    assert len(distinct(PLAIN_FUSION)) == len(PLAIN_FUSION) == 21


def test_settings_that_rank_alike_are_kept_once() -> None:
    alike = [PDV(2, 0, 0.5), PDV(1, 1, 0.5), PDV(0, 2, 0.5)]  # γ = 1
    assert distinct(alike) == (PDV(1, 1, 0.5),)
    assert distinct([PDV(1.4, 0.3, 1), PDV(1.4, "auto", 1)]) == (PDV(1.4, "auto", 1),)
    assert len(distinct([PDV(1, "auto", 0.5), PDV(2, "auto", 0.5), PDV(1, 1, 0.5)])) == 3
    assert len(distinct(Grid((0, 1, 2), (1,), (0,)))) == 1


def test_the_knobs_and_weights_reproduce_the_vectors() -> None:
    generator = torch.Generator().manual_seed(0)
    features = ComposedFeatures(*torch.randn(3, 4, 8, generator=generator, dtype=torch.float64))
    settings = [PDV(1.4, 0.3, 0.6), PDV(2, "auto", 0.2), PDV(-0.5, 2, 0)]
    beta, gamma = knobs(settings, features)
    assert gamma[0] == pytest.approx(0.4 * 0.3 + 0.6 * 1.4)
    three = (features.reference_image, features.reference_text, features.composed_text)
    alpha = automatic_alpha_image(*three, alpha_text=2.0).numpy()
    assert gamma[1] == pytest.approx(0.8 * alpha + 0.2 * 2)
    for row, setting in enumerate(settings):
        raw = np.einsum("qw,wqd->qd", weights(np.full(4, beta[row]), gamma[row]), torch.stack(three).numpy())
        unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
        assert np.allclose(setting(features).numpy(), unit, atol=1e-12)
