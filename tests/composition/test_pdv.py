import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor

from mmret.composition import PDV, ComposedFeatures, automatic_alpha_image, prompt_directional_vectors
from mmret.errors import InputError

knob = st.floats(-3, 3)


def draw(seed: int, queries: int = 50, width: int = 512) -> tuple[Tensor, Tensor, Tensor]:
    """Features of very different lengths, with the composed text near the reference text."""
    generator = torch.Generator().manual_seed(seed)
    image, reference, edit = torch.randn(3, queries, width, generator=generator)
    return 9 * image, 0.1 * reference, 0.1 * reference + 0.03 * edit


def ulps(left: Tensor, right: Tensor) -> int:
    """The largest distance of two float32 tensors in units in the last place."""
    return int((left.view(torch.int32).long() - right.view(torch.int32).long()).abs().max())


def test_a_hand_computed_case() -> None:
    image, reference, composed = torch.tensor([[[2.0, 0.0]], [[0.0, 3.0]], [[3.0, 4.0]]])
    # Unit vectors (1, 0), (0, 1), (.6, .8); Δ = (.6, −.2). PDV-T = (1.2, .6), PDV-I = (1.3, −.1).
    found = prompt_directional_vectors(image, reference, composed, alpha_text=2, alpha_image=0.5, beta=0.75)
    expected = torch.tensor([[1.225, 0.425]])
    assert torch.allclose(found, expected / expected.norm(), atol=1e-7)


def test_intermediate_vectors_are_not_renormalised() -> None:
    image, reference, composed = draw(0)
    unit = torch.nn.functional.normalize
    delta = unit(composed) - unit(reference)
    text, both = unit(reference) + 2.5 * delta, unit(image) + 1.5 * delta
    expected = unit(0.4 * both + 0.6 * text)
    found = prompt_directional_vectors(image, reference, composed, alpha_text=2.5, alpha_image=1.5, beta=0.6)
    assert torch.allclose(found, expected, atol=1e-6)
    assert not torch.allclose(found, unit(0.4 * unit(both) + 0.6 * unit(text)), atol=1e-3)


@pytest.mark.parametrize("width", [3, 64, 512, 768, 1280])
def test_ones_return_the_base_method(width: int) -> None:
    for seed in range(20):
        image, reference, composed = draw(seed, width=width)
        found = prompt_directional_vectors(image, reference, composed)
        assert ulps(found, torch.nn.functional.normalize(composed)) <= 1
        documents = torch.randn(200, width, generator=torch.Generator().manual_seed(seed))
        base = torch.nn.functional.normalize(composed)
        assert torch.equal((found @ documents.T).argsort(), (base @ documents.T).argsort())


@given(alpha_image=knob)
def test_the_image_step_does_not_matter_at_beta_one(alpha_image: float) -> None:
    features = draw(1, queries=3)
    found = prompt_directional_vectors(*features, alpha_image=alpha_image)
    assert torch.equal(found, prompt_directional_vectors(*features))


def test_one_value_per_query_equals_single_calls() -> None:
    features = draw(2, queries=4, width=16)
    alpha, beta = torch.tensor([0.0, 1.0, 1.5, 2.0]), torch.tensor([0.1, 0.4, 0.7, 1.0])
    found = prompt_directional_vectors(*features, alpha_text=alpha, alpha_image=alpha - 1, beta=beta)
    for row in range(4):
        single = prompt_directional_vectors(
            *(part[row : row + 1] for part in features),
            alpha_text=float(alpha[row]),
            alpha_image=float(alpha[row] - 1),
            beta=float(beta[row]),
        )
        assert torch.allclose(found[row : row + 1], single, atol=1e-6)


def test_a_vanishing_sum_stays_zero() -> None:
    image = torch.tensor([[1.0, 0.0]])
    found = prompt_directional_vectors(image, image, -image, alpha_text=1, alpha_image=0, beta=0.5)
    assert torch.equal(found, torch.zeros(1, 2))


@pytest.mark.parametrize("alpha_text", [1.0, 1.4])
def test_automatic_alpha_is_the_minimum_that_nelder_mead_finds(alpha_text: float) -> None:
    image, reference, composed = draw(3, queries=5, width=32)
    found = automatic_alpha_image(image, reference, composed, alpha_text=alpha_text, bounds=(-99, 99))
    three = (torch.nn.functional.normalize(part.double()) for part in (image, reference, composed))
    for alpha, v, r, c in zip(found, *three, strict=True):
        target = r + alpha_text * (c - r)

        def distance(x: list[float], v: Tensor = v, step: Tensor = c - r, target: Tensor = target) -> float:
            return float((target - v - float(x[0]) * step).norm())

        best = minimize(distance, [1.0], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-12})
        assert float(alpha) == pytest.approx(float(best.x[0]), abs=1e-3)


def test_automatic_alpha_is_clipped_and_defined_without_an_edit() -> None:
    image = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    reference = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.6, 0.8]])
    composed = torch.tensor([[-0.1, 1.0], [-0.1, 1.0], [0.6, 0.8]])
    assert automatic_alpha_image(image, reference, composed).tolist() == [2.0, -0.5, 1.0]
    assert automatic_alpha_image(image, reference, composed, bounds=(-0.5, 0.9)).tolist()[2] == pytest.approx(
        0.9
    )


@given(alpha_text=knob, alpha_image=st.one_of(knob, st.just("auto")), beta=knob)
def test_the_text_form_reads_back(alpha_text: float, alpha_image: float | str, beta: float) -> None:
    setting = PDV(round(alpha_text, 6), alpha_image if alpha_image == "auto" else 0.5, round(beta, 6))
    assert PDV.from_spec(str(setting)) == setting
    assert PDV.from_spec(setting.to_dict()) == setting
    assert PDV.from_spec(setting) is setting


def test_a_setting_is_named_as_in_yaml() -> None:
    assert repr(PDV(1.4, "auto", 0.75)) == "PDV(alpha_text=1.4, alpha_image=auto, beta=0.75)"
    assert PDV.from_spec("pdv(beta=.5)") == PDV(1, 1, 0.5)


def test_a_setting_applies_to_the_three_features() -> None:
    features = ComposedFeatures(*draw(4, queries=6, width=8))
    three = (features.reference_image, features.reference_text, features.composed_text)
    alpha = automatic_alpha_image(*three, alpha_text=1.2)
    expected = prompt_directional_vectors(*three, alpha_text=1.2, alpha_image=alpha, beta=0.3)
    assert torch.equal(PDV(1.2, "auto", 0.3)(features), expected)


@pytest.mark.parametrize("spec", ["PDV(gamma=1)", "nonsense", "PDV(beta=)", {"alpha": 1}, {"beta": "auto"}])
def test_settings_that_mean_nothing_are_refused(spec: str | dict[str, float | str]) -> None:
    with pytest.raises(InputError):
        PDV.from_spec(spec)


def test_bad_inputs_are_refused() -> None:
    features = draw(5, queries=3, width=4)
    with pytest.raises(InputError, match="one vector a query"):
        PDV()(features[0])
    with pytest.raises(InputError, match=r"beta has the shape \(2,\)"):
        prompt_directional_vectors(*features, beta=torch.ones(2))
    with pytest.raises(InputError, match="alpha_text"):
        prompt_directional_vectors(*features, alpha_text=math.nan)
    with pytest.raises(InputError, match="lower one first"):
        automatic_alpha_image(*features, bounds=(2, 1))
