"""A Lightning DataModule of text triplets: what RTD trains on. No caption stands twice in a batch."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from heapq import heapify, heappop, heappush
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Subset

from mmret.data.batches import MapStyle, TextTripletBatch
from mmret.data.datamodules import BatchedDataModule
from mmret.data.resuming import ResumableSampler
from mmret.data.text_triplets import TextTriplet, TextTriplets, read_text_triplets
from mmret.errors import InputError


class DistinctSampler(ResumableSampler):
    """An order in which no key stands twice in a batch over all devices.

    A caption that stood twice would be its own negative. Items are shuffled by (seed, epoch); one that shares a key
    with its batch waits for the next. An epoch has as many batches as N items fill: where those left at the end share
    too many keys to fill one, they are left out, and items of another shuffling stand in their place.

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
        self._order(0)

    def __len__(self) -> int:
        # The same for all epochs: Lightning asks once, and a resumed loader counts its batches in it.
        return len(self.keys) // self.joint * self.joint // self.num_replicas

    def __iter__(self) -> Iterator[int]:
        start, self.leave_out = self.leave_out, 0
        return iter(self._order(self.epoch)[self.rank :: self.num_replicas][start:])

    def _arranged(self, epoch: int) -> list[int]:
        generator, keys = torch.Generator().manual_seed(self.seed + epoch), self.keys.tolist()
        wanted, order = len(self) * self.num_replicas, list[int]()
        while len(order) < max(wanted, 1):
            shuffled = torch.randperm(len(keys), generator=generator).tolist()
            found = distinct_batches(shuffled, keys, self.joint)
            if not found:
                raise InputError(
                    f"{len(keys):,} text triplets fill no batch of {self.joint:,} without the same caption twice; give "
                    "more of them, or a smaller batch_size."
                )
            order += found
        return order[:wanted]


def distinct_batches(order: Sequence[int], keys: Sequence[Sequence[int]], size: int) -> list[int]:
    """The items in full batches of `size` without a key twice, as much in their order as that allows.

    Each batch takes, in order, every item that shares no key with it. Items wait in a queue for each key that kept
    them out, so that a key which thousands share costs each batch one look.

    >>> distinct_batches([0, 1, 2, 3], [[5], [5], [6], [7]], size=2)
    [0, 2, 1, 3]
    """
    places, arranged = iter(range(len(order))), list[int]()
    waiting: dict[int, list[int]] = {}  # key → heap of places in the order
    while True:
        batch, used = list[int](), set[int]()
        heads = [(queue[0], key) for key, queue in waiting.items()]
        heapify(heads)
        while len(batch) < size:
            place = _first_waiting(waiting, heads, used)
            place = next(places, None) if place is None else place
            if place is None:
                return arranged
            own = keys[order[place]]
            clash = next((key for key in own if key in used), None)
            if clash is None:
                batch.append(order[place])
                used.update(own)
            else:
                heappush(waiting.setdefault(clash, []), place)
        arranged += batch


def _first_waiting(waiting: dict[int, list[int]], heads: list[tuple[int, int]], used: set[int]) -> int | None:
    """Take the first place that waits for a key which the batch does not hold; None if there is none."""
    while heads:
        place, key = heappop(heads)
        if key in used:
            continue
        heappop(waiting[key])
        if waiting[key]:
            heappush(heads, (waiting[key][0], key))
        else:
            del waiting[key]
        return place
    return None


class TextTripletsDataModule(BatchedDataModule):
    """Text triplets, for `RTD`: batches are `TextTripletBatch`.

    Args:
        source: `miniature`, or what `mmret.data.text_triplets.read_text_triplets` reads: a JSON, JSONL or parquet file,
            or `hub:NAME`.
        batch_size: Triplets a batch and device.
        triplets: How many the miniature world makes.
        bank: Whose phrasings the miniature's edits speak: `A`, which its benchmark's queries do not share, or `B`,
            theirs (only to measure what shared phrasings give).
        held_out: Triplets kept for validation; their reference captions stand in no training triplet, and no caption
            stands twice in a full batch of them either.
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
        held = held_out_rows(keys, self.hparams["held_out"], self.seed, self.batch_size)
        kept = np.setdiff1d(np.arange(len(triplets)), np.flatnonzero(np.isin(keys[:, 0], keys[held, 0])))
        if not len(kept):
            raise InputError(f"held_out is {len(held):,}, which leaves no triplet to train on.")
        self.keys = keys[kept]
        self.train = Subset[TextTriplet](triplets, kept.tolist())  # type: ignore[arg-type]
        self.val = Subset[TextTriplet](triplets, held.tolist())  # type: ignore[arg-type]

    def train_dataloader(self) -> DataLoader[TextTriplet]:
        """Shuffled batches without a caption twice; a resumed training goes on where it was."""
        sampler = DistinctSampler(self.train, self.keys, self.batch_size, *self.devices, self.seed)
        dataset: MapStyle[TextTriplet] = self.train
        return self.loader(dataset, collate_triplets, training=True, sampler=sampler)

    def val_dataloader(self) -> DataLoader[TextTriplet]:
        """The triplets that were held out."""
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


def held_out_rows(keys: NDArray[np.int64], count: int, seed: int, size: int) -> NDArray[np.int64]:
    """Rows [count] of `keys` [N, K], drawn by the seed: ascending but for those that wait for a later batch of `size`.

    Raises `InputError` for a count below 0 or above N.
    """
    if not 0 <= count <= len(keys):
        raise InputError(
            f"held_out is {count:,}, of {len(keys):,} triplets; give a number from 0 to less than that."
        )
    order = torch.randperm(len(keys), generator=torch.Generator().manual_seed(seed)).tolist()
    drawn = sorted(order[:count])
    arranged = distinct_batches(range(count), keys[drawn].tolist(), size)
    rest = sorted(set(range(count)) - set(arranged))
    return np.array(drawn, dtype=np.int64)[[*arranged, *rest]] if count else np.zeros(0, dtype=np.int64)


def collate_triplets(items: list[TextTriplet]) -> TextTripletBatch:
    """Triplets to one batch."""
    return {
        "references": [item.reference_caption for item in items],
        "conditions": [item.conditioning_caption for item in items],
        "targets": [item.target_caption for item in items],
    }
