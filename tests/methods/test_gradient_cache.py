from functools import partial

import pytest
import torch
from torch import Tensor, nn

from mmret.losses import nt_xent
from mmret.methods.gradient_cache import cached_features


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 32), nn.Dropout(0.3), nn.GELU(), nn.Linear(32, 8)).train()


def gradients(network: nn.Module, loss: Tensor) -> list[Tensor]:
    network.zero_grad()
    loss.backward()
    return [parameter.grad.clone() for parameter in network.parameters()]


def chunks(network: nn.Module, inputs: Tensor, size: int) -> list[partial[Tensor]]:
    return [partial(network, part) for part in inputs.split(size)]


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("size", [1, 3, 4, 12])
def test_the_gradient_is_that_of_the_plain_step_with_dropout(
    network: nn.Module, size: int, accumulate: bool
) -> None:
    inputs, targets = torch.randn(12, 6), torch.randn(12, 8)
    torch.manual_seed(7)
    plain = torch.cat([network(part) for part in inputs.split(size)])
    wanted = gradients(network, nt_xent(targets, plain, 0.1))
    torch.manual_seed(7)
    cached = cached_features(chunks(network, inputs, size), list(network.parameters()), accumulate)
    assert torch.equal(cached, plain)
    torch.rand(5)  # the random state moves on before the backward pass, as in a training
    after = torch.get_rng_state()
    found = gradients(network, nt_xent(targets, cached, 0.1))
    assert torch.equal(torch.get_rng_state(), after)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_mixed_precision_is_that_of_the_first_pass(network: nn.Module) -> None:
    inputs, seen = torch.randn(4, 6), []
    network[0].register_forward_hook(lambda *passed: seen.append(passed[-1].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        cached = cached_features(chunks(network, inputs, 2), list(network.parameters()))
    gradients(network, cached.float().square().sum())
    assert seen == [torch.bfloat16] * 4


def test_parameters_that_are_not_used_get_no_gradient(network: nn.Module) -> None:
    idle = nn.Parameter(torch.ones(2))
    cached = cached_features(chunks(network, torch.randn(4, 6), 2), [*network.parameters(), idle])
    cached.sum().backward()
    assert idle.grad is None


def test_no_chunks_are_refused() -> None:
    with pytest.raises(ValueError, match="no chunks"):
        cached_features([], [])
