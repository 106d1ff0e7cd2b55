"""Large contrastive batches in little memory: features without a graph, the loss on all, then chunk by chunk again.

Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup (GradCache, arXiv 2101.06983). Here
it is one autograd function over the parameters: the gradient of each parameter arrives once, as in a plain step, so
that gradient scaling and the synchronisation of devices work as ever.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Encode = Callable[[], Tensor]


def cached_features(
    chunks: Sequence[Encode], parameters: Sequence[nn.Parameter], accumulate: bool = False
) -> Tensor:
    """The features of all chunks, [ΣB, D], whose backward pass encodes each chunk a second time.

    Only one chunk's activations are held at any time. The second encoding sees the random state (dropout) and the
    automatic mixed precision of the first.

    Args:
        chunks: Each encodes its own part, [B, D]; called once here and once more in the backward pass.
        parameters: All that `chunks` use and that learn. A gradient to anything else is lost.
        accumulate: Let each chunk's backward pass add to `.grad` itself. That holds every gradient once, where the sum
            that is made otherwise stands beside the chunk's. Sharded parameters (FSDP) need it: what puts them
            together and spreads their gradients hangs on it. DDP, which counts gradients, does not take it.

    Raises:
        ValueError: there is no chunk.
    """
    if not chunks:
        raise ValueError("there are no chunks to encode")
    anchor = torch.zeros(
        (), requires_grad=True
    )  # so that the backward pass comes here without parameters, too
    given = () if accumulate else parameters
    return _Replayed.apply([_Call(chunk) for chunk in chunks], anchor, *given)  # type: ignore[no-any-return]


@dataclass
class _Call:
    """A chunk's encoding, with the surroundings of its first call."""

    encode: Encode
    cpu: Tensor | None = None
    cuda: Tensor | None = None
    autocast: tuple[tuple[str, torch.dtype], ...] = ()

    def first(self) -> Tensor:
        """Encode without a graph, and remember the surroundings."""
        self.cpu = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        self.autocast = tuple(
            (kind, torch.get_autocast_dtype(kind))
            for kind in ("cpu", "cuda")
            if torch.is_autocast_enabled(kind)
        )
        with torch.no_grad():
            return self.encode()

    def again(self) -> Tensor:
        """Encode with a graph, in the same surroundings."""
        with self._same_random_state(), torch.enable_grad(), self._same_precision():
            return self.encode()

    @contextmanager
    def _same_random_state(self) -> Iterator[None]:
        assert self.cpu is not None, "the first call comes first"
        devices = [torch.cuda.current_device()] if self.cuda is not None else []
        with torch.random.fork_rng(devices):
            torch.set_rng_state(self.cpu)
            if self.cuda is not None:
                torch.cuda.set_rng_state(self.cuda)
            yield

    def _same_precision(self) -> Any:
        kind, dtype = self.autocast[0] if self.autocast else ("cpu", torch.float32)
        return torch.autocast(kind, dtype) if self.autocast else nullcontext()


class _Replayed(torch.autograd.Function):
    """Features of calls, whose gradient to the parameters is summed up call by call."""

    @staticmethod
    def forward(ctx: Any, calls: list[_Call], anchor: Tensor, *parameters: Tensor) -> Tensor:
        ctx.calls = calls
        ctx.save_for_backward(*parameters)
        parts = [call.first() for call in calls]
        ctx.lengths = [len(part) for part in parts]
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        parameters = ctx.saved_tensors
        totals: list[Tensor | None] = [None] * len(parameters)
        for call, part in zip(ctx.calls, grad.split(ctx.lengths), strict=True):
            # In this thread: threads of a nested backward pass may outlive the process that ends behind it.
            with torch.autograd.set_multithreading_enabled(False):
                found = _gradients(call.again(), parameters, part)
            totals = [_added(total, new) for total, new in zip(totals, found, strict=True)]
        return None, None, *totals


def _gradients(features: Tensor, parameters: Sequence[Tensor], grad: Tensor) -> tuple[Tensor | None, ...]:
    """The gradient to each of the parameters; without any, it is added to `.grad` of all that took part."""
    grad = grad.to(features.dtype)
    if not parameters:
        torch.autograd.backward(features, grad)
        return ()
    return torch.autograd.grad(features, parameters, grad, allow_unused=True)


def _added(total: Tensor | None, new: Tensor | None) -> Tensor | None:
    if total is None or new is None:
        return new if total is None else total
    return total.add_(new)
