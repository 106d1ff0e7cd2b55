"""A Lightning DataModule of mined triplets: what the combiner trains on."""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Protocol, TypedDict

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from mmret.data.annotated_folder import load_captioned_images
from mmret.data.batches import Transform
from mmret.data.datamodules import BatchedDataModule
from mmret.data.mining import MinedTriplet, mine_triplets, read_concreteness
from mmret.errors import InputError

_FOLDER = "folder:"
TripletItem = tuple[Tensor, Tensor, str]


class TripletBatch(TypedDict):
    """Pixels float32 [B, 3, H, W] of references and of targets, and B conditions."""

    reference: Tensor
    target: Tensor
    conditions: list[str]


class CaptionedItems(Protocol):
    """Captioned images whose texts can be had without the images."""

    @property
    def texts(self) -> list[str]:
        """The caption of every item."""

    @property
    def owners(self) -> Sequence[Hashable]:
        """What image each item shows."""

    def __getitem__(self, index: int, /) -> tuple[Image.Image, str]: ...


class TransformedTriplets:
    """Triplets as (reference, target, condition), the images as a backbone's input."""

    def __init__(self, items: CaptionedItems, triplets: Sequence[MinedTriplet], transform: Transform) -> None:
        self.items, self.triplets, self.transform = items, triplets, transform

    def __len__(self) -> int:
        return len(self.triplets)

    def __getitem__(self, index: int) -> TripletItem:
        triplet = self.triplets[index]
        reference, target = (
            self.transform(self.items[row][0]) for row in (triplet.reference, triplet.target)
        )
        return reference, target, triplet.condition


class MinedTripletsDataModule(BatchedDataModule):
    """Triplets mined from captioned images, for `Combiner`: batches are `TripletBatch`.

    Args:
        source: `miniature`, or `folder:PATH` with its `captions.jsonl` (the train captions).
        backbone: Name whose preprocessing is applied; by default that of the trained module.
        preprocess: Another preprocessing than the backbone's own, by name.
        batch_size: Triplets a batch and device.
        pairs: How many captioned images the miniature world draws; a folder has its own.
        triplets: How many triplets to mine for training.
        held_out: Triplets kept for validation, mined on top; their images may stand in other triplets too.
        least_images: A noun counts if so many images show it.
        concreteness: A table of rated words, see `mmret.data.mining.read_concreteness`; None: everything stays.
        num_workers: Processes that read images; 0 reads in the main process.
        seed: Of the mining, the order and of what is held out.
    """

    def __init__(
        self,
        source: str = "miniature",
        backbone: str | None = None,
        preprocess: str | None = None,
        batch_size: int = 256,
        pairs: int = 20_000,
        triplets: int = 50_000,
        held_out: int = 1_024,
        least_images: int = 2,
        concreteness: str | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers, seed)
        self.save_hyperparameters(logger=False)

    def setup(self, stage: str | None = None) -> None:
        """Open the source, mine, and set `train` and `val`."""
        transform = self.transform_for(self.hparams["backbone"], self.hparams["preprocess"])
        items, held_out = self._items(), self.hparams["held_out"]
        ratings = self.hparams["concreteness"]
        found = mine_triplets(
            items.texts,
            self.hparams["triplets"] + held_out,
            images=items.owners,
            seed=self.seed,
            least_images=self.hparams["least_images"],
            concreteness=None if ratings is None else read_concreteness(Path(ratings)),
        )
        self.train, self.val = self.held_out(TransformedTriplets(items, found, transform), held_out)

    def train_dataloader(self) -> DataLoader[TripletItem]:
        """Shuffled batches."""
        return self.loader(self.train, collate_triplets, training=True)

    def val_dataloader(self) -> DataLoader[TripletItem]:
        """The triplets that were held out, in order."""
        return self.loader(self.val, collate_triplets)

    def _items(self) -> CaptionedItems:
        source: str = self.hparams["source"]
        if source == "miniature":
            from mmret.data.miniature import CaptionedScenes

            return CaptionedScenes(self.hparams["pairs"])
        if source.startswith(_FOLDER):
            return load_captioned_images(source.removeprefix(_FOLDER))
        raise InputError(f"source is {source!r}; triplets are mined from 'miniature' or 'folder:PATH'.")


def collate_triplets(items: list[TripletItem]) -> TripletBatch:
    """Triplets to one batch."""
    references, targets, conditions = zip(*items, strict=True)
    return {
        "reference": torch.stack(references),
        "target": torch.stack(targets),
        "conditions": list(conditions),
    }
