import math

import pytest
import torch
import torch.nn.functional as F

from mmret.losses import masked_reconstruction, nt_xent, symmetric_contrastive


def test_matching_pairs_far_from_all_others_cost_nothing() -> None:
    features = torch.eye(4)
    assert symmetric_contrastive(features, features, 100.0).item() == pytest.approx(0, abs=1e-6)


def test_features_that_say_nothing_cost_the_logarithm_of_the_batch() -> None:
    same = torch.ones(8, 2) / math.sqrt(2)
    assert symmetric_contrastive(same, same, 10.0).item() == pytest.approx(math.log(8))


def test_the_loss_is_the_mean_of_both_directions_by_hand() -> None:
    first = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    second = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    logits = [[2.0, 0.0], [1.2, 1.6]]  # scale 2

    def cross_entropy(row: list[float], label: int) -> float:
        return math.log(sum(map(math.exp, row))) - row[label]

    columns = [list(column) for column in zip(*logits, strict=True)]
    wanted = sum(cross_entropy(rows[i], i) for rows in (logits, columns) for i in range(2)) / 4
    assert symmetric_contrastive(first, second, 2.0).item() == pytest.approx(wanted)


def test_nt_xent_is_computed_in_full_precision_whatever_surrounds_it() -> None:
    first, second = torch.randn(16, 64), torch.randn(16, 64)
    wanted = nt_xent(first, second, 0.07)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nt_xent(first, second, 0.07), wanted)


def test_reconstruction_is_the_mean_square_of_unnormalised_features() -> None:
    assert masked_reconstruction(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])).item() == 12.5


def test_distillation_has_all_other_words_as_negatives_by_hand() -> None:
    target, predicted = torch.randn(3, 5), torch.randn(3, 5)
    words = F.normalize(torch.cat([target, predicted]), dim=1)
    similarity = torch.exp(words @ words.T / 0.25)
    losses = [
        -math.log(similarity[i, (i + 3) % 6] / sum(similarity[i, j] for j in range(6) if j != i))
        for i in range(6)
    ]
    assert nt_xent(target, predicted, 0.25).item() == pytest.approx(sum(losses) / 6, rel=1e-5)


def test_distillation_is_blind_to_the_words_lengths() -> None:
    target, predicted = torch.randn(3, 5), torch.randn(3, 5)
    scaled = nt_xent(7 * target, predicted / 9, 0.25)
    torch.testing.assert_close(scaled, nt_xent(target, predicted, 0.25))
