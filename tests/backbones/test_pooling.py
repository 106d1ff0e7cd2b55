import pytest
import torch
from torch.nn import functional

from mmret.backbones.base import TokenVectors
from mmret.backbones.pooling import (
    LatentAttention,
    Pooling,
    cluster_tokens,
    last_token,
    masked_mean,
    parse_pooling,
    without_first,
)
from mmret.errors import InputError

MASK = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]]).bool()


def test_last_and_mean_pass_padding_over() -> None:
    states = torch.randn(3, 4, 5)
    assert torch.equal(last_token(states, MASK), torch.stack([states[0, 3], states[1, 2], states[2, 3]]))
    states[~MASK] = torch.nan  # attention may leave anything there
    assert torch.allclose(masked_mean(states, MASK)[0], states[0, 2:].mean(dim=0))
    assert without_first(MASK, 1).tolist() == [
        [False, False, False, True],
        [False, True, True, False],
        [False] + [True] * 3,
    ]


def test_latent_attention_is_nv_embeds() -> None:
    """Written out: queries from the tokens, keys and values from the latents, two residuals, a mean."""
    torch.manual_seed(0)
    module = LatentAttention(16, latents=7, heads=8)
    states = torch.randn(3, 4, 16)
    attend, feed = module.cross_attend_blocks
    q = attend.fn.to_q(attend.norm(states)).reshape(3, 4, 8, 2)
    k, v = (
        part.reshape(7, 8, 2)
        for part in attend.fn.to_kv(attend.norm_context(module.latents)).chunk(2, dim=-1)
    )
    weights = (torch.einsum("blhd,nhd->bhln", q, k) / 2**0.5).softmax(dim=-1)
    hidden = attend.fn.to_out(torch.einsum("bhln,nhd->blhd", weights, v).reshape(3, 4, 16)) + states
    values, gates = feed.fn.net[0](feed.norm(hidden)).chunk(2, dim=-1)
    hidden = feed.fn.net[2](values * functional.gelu(gates)) + hidden
    assert torch.allclose(module(states, MASK), masked_mean(hidden, MASK), atol=1e-5)
    again = LatentAttention.from_state(dict(module.state_dict()))
    assert torch.equal(again(states, MASK), module(states, MASK))
    assert LatentAttention(16).latents.shape == (512, 16)
    with pytest.raises(InputError, match="NV-Embed's layout"):
        LatentAttention.from_state({"latents": torch.zeros(2, 3)})


def test_clusters_are_normalised_means_of_neighbours() -> None:
    near, far = torch.tensor([[1.0, 0.0], [0.99, 0.1], [0.98, -0.1]]), torch.tensor([[0.0, 1.0]])
    vectors = functional.normalize(torch.cat([near, far, near[:2], near[:1]]), dim=-1)
    found = cluster_tokens(TokenVectors(vectors, torch.tensor([4, 2, 1])), 2)
    assert found.lengths.tolist() == [2, 1, 1]
    expected = functional.normalize(functional.normalize(near, dim=-1).mean(dim=0), dim=0)
    assert any(torch.allclose(row, expected, atol=1e-6) for row in found.vectors[:2])
    assert any(torch.allclose(row, far[0]) for row in found.vectors[:2])


def test_only_pages_are_clustered() -> None:
    pooling, states = Pooling("tokens-2", 5), torch.randn(3, 4, 5)
    assert pooling(states, MASK).lengths.tolist() == [2, 3, 4]
    assert pooling(states, MASK, cluster=True).lengths.tolist() == [1, 1, 2]


def test_names() -> None:
    assert parse_pooling("tokens-3") == ("tokens", 3) and parse_pooling("last") == ("last", 1)
    assert parse_pooling("latent-attention") == ("latent-attention", 1)
    with pytest.raises(InputError, match="no pooling 'cls'"):
        parse_pooling("cls")
