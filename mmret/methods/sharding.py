"""Weights, gradients and optimizer states spread over the devices (FSDP2), and put together again to be written.

Lightning's `ModelParallelStrategy` gives a module its mesh of devices; what is sharded is said here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch.strategies import (
    DDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
    Strategy,
)
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from mmret.backbones.base import Backbone

#: What is called on a backbone: before it, sharded weights are put together, and behind it they are let go.
_CALLED = ("encode_documents", "encode_queries")


def keeps_whole(strategy: Strategy) -> bool:
    """Whether each process has the whole model: on one device, or by DDP."""
    return type(strategy) in (SingleDeviceStrategy, DDPStrategy)  # DeepSpeed's is a kind of DDP to Lightning


def spreads_by_data(strategy: Strategy) -> bool:
    """Whether it is FSDP2 with other data on each device; known once processes have met."""
    return isinstance(strategy, ModelParallelStrategy) and strategy.device_mesh["tensor_parallel"].size() == 1


def shard(backbone: Backbone, mesh: DeviceMesh) -> None:
    """Spread a backbone's weights over a mesh of one dimension, each block of a transformer for itself."""
    for weight in backbone.parameters():
        weight.data = weight.data.contiguous()  # convolutions may lie otherwise, which FSDP does not take
    for block in blocks(backbone):
        fully_shard(block, mesh=mesh)
    # A number cannot be shared out. The only ones are open_clip's scales, which do not learn here.
    numbers = {weight for weight in backbone.parameters() if weight.ndim == 0}
    fully_shard(backbone, mesh=mesh, ignored_params=numbers)
    for name in _CALLED:
        register_fsdp_forward_method(backbone, name)


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost members of lists of modules: the layers of towers and language models."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from blocks(child)


@contextmanager
def whole(backbone: Backbone, keep: bool) -> Iterator[None]:
    """Within: the weights are no shards but whole, on the CPU, where `keep`; all devices have to enter it.

    It takes weight by weight, so that no device ever holds more than one of them whole.
    """
    for module in backbone.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
    sharded: list[tuple[nn.Module, str, Any]] = [
        (owner, name, weight)
        for owner in backbone.modules()
        for name, weight in owner._parameters.items()
        if isinstance(weight, DTensor)
    ]
    found: dict[int, nn.Parameter] = {}
    for owner, name, weight in sharded:
        if id(weight) not in found:
            full: Tensor = weight.full_tensor().detach()
            found[id(weight)] = nn.Parameter(full.cpu() if keep else full[:0], weight.requires_grad)
        owner._parameters[name] = found[id(weight)]
    try:
        yield
    finally:
        for owner, name, weight in sharded:
            owner._parameters[name] = weight
