"""A Lightning DataModule of text triplets: what RTD trains on. No caption stands twice in a batch."""

from collections import deque
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Subset

from mmret.data.batches import MapStyle, TextTripletBatch
from mmret.data.datamodules import BatchedDataModule
from mmret.data.resuming import ResumableLoader, ResumableSampler
from mmret.data.text_triplets import TextTriplet, TextTriplets, read_text_triplets
from mmret.errors import InputError


class DistinctSampler(ResumableSampler):
    """An order in which no key stands twice in a batch over all devices.

    A caption that stood twice would be its own negative. Items are shuffled by (seed, epoch); one that shares a key
    with its batch waits for the next. Those left at the end that fill no batch are left out of the epoch.

    Args:
        dataset: N items.
        keys: [N, K], what an item holds.
        batch_size: Items a device and batch.
        replicas, rank: Devices, and this one's number.
        seed: Of the order.
    """

    def __init__(
        self, dataset: Any, keys: NDArray[np.int64], batch_size: int, replicas: int, rank: int, seed: int
    ) -> None:
        super().__init__(dataset, replicas, rank, shuffle=True, seed=seed)
        self.keys, self.joint = keys, replicas * batch_size
        self._order = lru_cache(maxsize=1)(self._arranged)
        if not self._order(0):
            raise InputError(
                f"{len(keys):,} text triplets fill no batch of {self.joint:,} without the same caption twice; give "
                "more of them, or a smaller batch_size."
            )

    def __len__(self) -> int:
        return len(self._order(self.epoch)) // self.num_replicas

    def __iter__(self) -> Iterator[int]:
        start, self.leave_out = self.leave_out, 0
        return iter(self._order(self.epoch)[self.rank :: self.num_replicas][start:])

    def _arranged(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(self.seed + epoch)
        order = torch.randperm(len(self.keys), generator=generator).tolist()
        return distinct_batches(order, self.keys.tolist(), self.joint)


def distinct_batches(order: Sequence[int], keys: Sequence[Sequence[int]], size: int) -> list[int]:
    """The items in batches of `size` without a key twice, as much in their order as that allows.

    >>> distinct_batches([0, 1, 2, 3], [[5], [5], [6], [7]], size=2)
    [0, 2, 1, 3]
    """
    coming, waiting, arranged = iter(order), deque[int](), list[int]()
    while True:
        batch, used, late = list[int](), set[int](), deque[int]()
        while len(batch) < size and (waiting or (item := next(coming, None)) is not None):
            candidate = waiting.popleft() if waiting else item
            assert candidate is not None
            if used.isdisjoint(keys[candidate]):
                batch.append(candidate)
                used.update(keys[candidate])
            else:
                late.append(candidate)
        if len(batch) < size:
            return arranged
        arranged += batch
        waiting = late + waiting


class TextTripletsDataModule(BatchedDataModule):
    """Text triplets, for `RTD`: batches are `TextTripletBatch`.

    Args:
        source: `miniature`, or what `mmret.data.text_triplets.read_text_triplets` reads: a JSON, JSONL or parquet file,
            or `hub:NAME`.
        batch_size: Triplets a batch and device.
        triplets: How many the miniature world makes.
        bank: Whose phrasings the miniature's edits speak: `A`, which its benchmark's queries do not share, or `B`,
            theirs (only to measure what shared phrasings give).
        held_out: Triplets kept for validation; their reference captions stand in no training triplet.
        columns: Of a file, see `read_text_triplets`.
        split: Of a data set of the hub.
        drop_unusable: Leave out rows that are no triplets, with a warning that counts them, instead of refusing.
        num_workers: Processes that read; 0 reads in the main process.
        seed: Of the order and of what is held out.
    """

    def __init__(
        self,
        source: str = "miniature",
        batch_size: int = 128,
        triplets: int = 48_000,
        bank: str = "A",
        held_out: int = 512,
        columns: list[str] | None = None,
        split: str = "train",
        drop_unusable: bool = False,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers, seed)
        self.save_hyperparameters(logger=False)

    def setup(self, stage: str | None = None) -> None:
        """Read the source and set `train` and `val`."""
        triplets = self._triplets()
        keys = triplets.caption_keys
        held = drawn_rows(len(keys), self.hparams["held_out"], self.seed)
        kept = np.setdiff1d(np.arange(len(triplets)), np.flatnonzero(np.isin(keys[:, 0], keys[held, 0])))
        if not len(kept):
            raise InputError(f"held_out is {len(held):,}, which leaves no triplet to train on.")
        self.keys = keys[kept]
        self.train = Subset[TextTriplet](triplets, kept.tolist())  # type: ignore[arg-type]
        self.val = Subset[TextTriplet](triplets, held.tolist())  # type: ignore[arg-type]

    def train_dataloader(self) -> DataLoader[TextTriplet]:
        """Shuffled batches without a caption twice; a resumed training goes on where it was."""
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        sampler = DistinctSampler(self.train, self.keys, self.batch_size, world, rank, self.seed)
        return ResumableLoader(
            self.train,
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=True,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=collate_triplets,
        )

    def val_dataloader(self) -> DataLoader[TextTriplet]:
        """The triplets that were held out, in order."""
        dataset: MapStyle[TextTriplet] = self.val
        return self.loader(dataset, collate_triplets)

    def _triplets(self) -> TextTriplets:
        if self.hparams["source"] == "miniature":
            from mmret.data.miniature import text_triplets

            return TextTriplets(text_triplets(self.hparams["triplets"], bank=self.hparams["bank"]))
        return read_text_triplets(
            self.hparams["source"],
            split=self.hparams["split"],
            columns=self.hparams["columns"] or (),
            drop_unusable=self.hparams["drop_unusable"],
        )


def drawn_rows(total: int, count: int, seed: int) -> NDArray[np.int64]:
    """`count` of `total` rows (or all), drawn by the seed, ascending."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(total, generator=generator).numpy()[:count]
    return np.sort(order.astype(np.int64))


def collate_triplets(items: list[TextTriplet]) -> TextTripletBatch:
    """Triplets to one batch."""
    return {
        "references": [item.reference_caption for item in items],
        "conditions": [item.conditioning_caption for item in items],
        "targets": [item.target_caption for item in items],
    }
