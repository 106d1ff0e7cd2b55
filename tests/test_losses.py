import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmret.losses import (
    cosines,
    info_nce,
    late_interaction,
    masked_reconstruction,
    nt_xent,
    suspects,
    symmetric_contrastive,
)
from mmret.retrieval.maxsim import MultiVectorIndex, search_multi_vectors
from mmret.retrieval.multi_vectors import MultiVectors


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


def test_info_nce_is_the_formula_less_what_is_left_out() -> None:
    similarities = torch.tensor([[0.9, 0.5, 0.8], [0.2, 0.6, 0.1]])
    own, left_out = torch.tensor([0, 1]), torch.tensor([[False, False, True], [False, False, False]])
    first = -math.log(math.exp(9) / (math.exp(9) + math.exp(5)))
    second = -math.log(math.exp(6) / (math.exp(2) + math.exp(6) + math.exp(1)))
    found = info_nce(similarities, own, 0.1, left_out)
    assert found.item() == pytest.approx((first + second) / 2, rel=1e-5)
    assert info_nce(similarities, own, 0.1).item() > found.item()


def test_suspects_are_nearer_than_a_share_of_the_own_page() -> None:
    similarities = torch.tensor([[0.8, 0.77, 0.75, 0.9], [-0.3, -0.2, 0.4, -0.5]])
    found = suspects(similarities, torch.tensor([0, 0]), 0.95)
    assert found.tolist() == [[False, True, False, True], [False] * 4]
    # Never the own page, even at a share of less than all of it.
    assert not suspects(similarities, torch.tensor([3, 2]), 0.1)[torch.arange(2), torch.tensor([3, 2])].any()


def test_similarities_are_float32_under_mixed_precision() -> None:
    queries, pages = torch.randn(3, 8), torch.randn(4, 8)
    wanted = F.normalize(queries, dim=-1) @ F.normalize(pages, dim=-1).T
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(cosines(queries, pages), wanted)
        assert late_interaction(queries[None], pages[None]).dtype == torch.float32


def test_late_interaction_is_the_search_s_by_query_length() -> None:
    torch.manual_seed(0)
    lengths = {"queries": [3, 1], "pages": [4, 2, 5]}
    vectors = {
        name: [F.normalize(torch.randn(n, 6), dim=-1) for n in sizes] for name, sizes in lengths.items()
    }
    padded = {name: torch.nn.utils.rnn.pad_sequence(rows, batch_first=True) for name, rows in vectors.items()}
    found = late_interaction(padded["queries"], padded["pages"])
    sides = {
        name: MultiVectors.of_lengths(torch.cat(rows).numpy(), np.array(lengths[name]))
        for name, rows in vectors.items()
    }
    run = search_multi_vectors(MultiVectorIndex(list("abc"), sides["pages"]), ["q", "r"], sides["queries"], 3)
    for row, (name, length) in enumerate(zip(("q", "r"), lengths["queries"], strict=True)):
        expected = dict(run.ranking(name))
        for column, page in enumerate("abc"):
            assert found[row, column].item() == pytest.approx(expected[page] / length, rel=1e-5)


def test_the_gradient_of_late_interaction_passes_padding_by() -> None:
    queries, pages = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    queries[1, 2], pages[0, 3:] = 0, 0
    queries.requires_grad_(), pages.requires_grad_()
    late_interaction(queries, pages).square().sum().backward()
    assert queries.grad.isfinite().all() and pages.grad.isfinite().all()
    assert not queries.grad[1, 2].any() and not pages.grad[0, 3:].any() and pages.grad.any()
