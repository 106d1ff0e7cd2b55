"""Shuffled batches that a resumed run takes up exactly where the killed one stopped."""

from collections.abc import Iterator
from typing import Any, TypeVar

from torch.utils.data import DataLoader, DistributedSampler

Item_co = TypeVar("Item_co", covariant=True)


class ResumableSampler(DistributedSampler[int]):
    """A DistributedSampler (order by seed and epoch alone) that can leave out the start of its next epoch."""

    leave_out: int = 0
    """How many of this process's items the next epoch leaves out."""

    def __iter__(self) -> Iterator[int]:
        order, start = list(super().__iter__()), self.leave_out
        self.leave_out = 0
        return iter(order[start:])


class ResumableLoader(DataLoader[Item_co]):
    """A DataLoader over a `ResumableSampler` that remembers how far it is in its epoch.

    Lightning keeps `state_dict` in its checkpoints. Without it, a run resumed within an epoch would meet that
    epoch's first batches again and never its last ones.
    """

    _given: int = 0

    def state_dict(self) -> dict[str, Any]:
        """How many batches of the current epoch were given out."""
        return {"batches": self._given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin the next epoch after so many batches; a whole epoch of them is none of the next."""
        self._given = state["batches"] % len(self)
        assert isinstance(self.sampler, ResumableSampler)
        self.sampler.leave_out = self._given * (self.batch_size or 1)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch promises its own private iterator
        """Batches of one epoch, or the rest of one."""
        assert isinstance(self.sampler, ResumableSampler)
        self._given = self.sampler.leave_out // (self.batch_size or 1)
        for batch in super().__iter__():
            self._given += 1
            yield batch
