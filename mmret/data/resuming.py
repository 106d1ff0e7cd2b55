"""Shuffled batches that a resumed run takes up exactly where the killed one stopped."""

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, TypeVar

from torch.utils.data import DataLoader, DistributedSampler

Item = TypeVar("Item")
Item_co = TypeVar("Item_co", covariant=True)


class ResumableSampler(DistributedSampler[int]):
    """A DistributedSampler (order by seed and epoch alone) that can leave out the start of its next epoch."""

    leave_out: int = 0
    """How many of this process's items the next epoch leaves out."""

    groups: Sequence[Hashable] = ()
    """Each item's group; without, every item stands where the shuffling put it."""

    together: int = 1
    """How many items of a group stand side by side, at most."""

    def __iter__(self) -> Iterator[int]:
        order, start = list(super().__iter__()), self.leave_out
        self.leave_out = 0
        if self.groups:
            order = side_by_side(order, [self.groups[item] for item in order], self.together)
        return iter(order[start:])


def side_by_side(order: Sequence[Item], groups: Sequence[Hashable], together: int) -> list[Item]:
    """The items with up to `together` of each group beside one another, and otherwise in their order.

    A batch of such an order holds hard negatives: items that differ in little.

    >>> side_by_side("aBcADb", ["a", "b", "c", "a", "d", "b"], together=2)
    ['a', 'A', 'B', 'b', 'c', 'D']
    """
    runs: list[list[Item]] = []
    filling: dict[Hashable, list[Item]] = {}
    for item, group in zip(order, groups, strict=True):
        if group not in filling or len(filling[group]) == together:
            filling[group] = []
            runs.append(filling[group])
        filling[group].append(item)
    return [item for run in runs for item in run]


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
