import pytest
import torch

from mmret.composition import ComposedFeatures, QueryBatch, concatenate, l2_normalise
from mmret.errors import InputError


def test_normalising_again_changes_no_bit() -> None:
    vectors = torch.randn(2000, 512, generator=torch.Generator().manual_seed(0)) * 7
    once = l2_normalise(vectors)
    assert torch.equal(l2_normalise(once), once)
    assert torch.equal(once, torch.nn.functional.normalize(vectors))


def test_zeros_stay_zeros_and_half_precision_becomes_float32() -> None:
    vectors = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=torch.float16)
    assert torch.equal(l2_normalise(vectors), torch.tensor([[0.0, 0.0], [0.6, 0.8]]))


def test_short_vectors_are_normalised_too() -> None:
    assert torch.allclose(l2_normalise(torch.tensor([[3e-6, 4e-6]])), torch.tensor([[0.6, 0.8]]))


def test_composed_features_are_normalised_and_join() -> None:
    one = ComposedFeatures(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]]), torch.tensor([[3.0, 4.0]]))
    both = concatenate([one, one])
    assert torch.equal(both.composed_text, torch.tensor([[0.6, 0.8], [0.6, 0.8]]))
    assert len(both) == 2


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(1, 2\), \(1, 3\)"):
        ComposedFeatures(torch.ones(1, 2), torch.ones(1, 3), torch.ones(1, 2))
    with pytest.raises(InputError, match="2 ids, 1 references"):
        QueryBatch(("a", "b"), ("r",), (("x",), ("y",)), torch.ones(2, 3))
