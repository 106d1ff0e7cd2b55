"""DataModules of images alone: encoded live, from a store of features, or with their pseudo-words."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import InterpolationMode, RandomResizedCrop

from mmret.backbones import load_backbone
from mmret.backbones.spec import BackboneSpec
from mmret.composition.word_files import PseudoWords
from mmret.data.batches import Transform, TransformedImages, collate_images
from mmret.data.datamodules import BatchedDataModule
from mmret.data.image_sources import open_training_images
from mmret.data.images import ImageSource
from mmret.embedding import embed_images, open_store
from mmret.errors import InputError
from mmret.inversion import OTI, ConceptPhrases, invert_images
from mmret.inversion.images import made_by
from mmret.retrieval.store import EmbeddingStore


class FeatureBatch(TypedDict):
    """B image ids and their un-normalised `features` float32 [B, D]."""

    ids: list[str]
    features: Tensor


class InvertedBatch(FeatureBatch):
    """A `FeatureBatch` with the images' pseudo-words, `words` float32 [B, T]."""

    words: Tensor


class NamedRows:
    """Rows of one or more arrays by image id, as (id, row of the first, row of the second, …)."""

    def __init__(self, ids: Sequence[str], *columns: NDArray[np.float32]) -> None:
        self.ids, self.columns = tuple(ids), columns

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return (self.ids[index], *(torch.from_numpy(column[index].copy()) for column in self.columns))


class CroppedTransform:
    """A random crop that keeps at least the share `keep` of the area, then the backbone's preprocessing."""

    def __init__(self, transform: Transform, size: int, keep: float) -> None:
        self.crop = RandomResizedCrop(size, scale=(keep, 1.0), interpolation=InterpolationMode.BICUBIC)
        self.transform = transform

    def __call__(self, image: Image.Image) -> Tensor:
        """Return float32 [3, H, W]."""
        return self.transform(self.crop(image))


class ImagesDataModule(BatchedDataModule):
    """Images alone, for methods that train on them (Pic2Word): batches are `ImageBatch` or `FeatureBatch`.

    With a `store` every image is encoded once, by the frozen backbone, and batches carry features: an epoch then
    costs φ and the text tower alone. Without one batches carry pixels, which may be augmented.

    Args:
        source: `miniature`, or `folder:PATH` (see `mmret.data.image_sources`).
        backbone: Name whose preprocessing is applied; by default that of the trained module.
        preprocess: Another preprocessing than the backbone's own, by name.
        batch_size: Images a batch and device.
        images: How many images the miniature world draws; None: all of a folder.
        held_out: Images kept for validation.
        store: Folder of feature stores; None: encode live.
        crop: Least share of the area that a random crop keeps, for augmentation (open_clip's: .9); None: none.
        num_workers: Processes that read images; 0 reads in the main process.
        seed: Of the order and of what is held out.
        device: That encodes images for the store.
    """

    def __init__(
        self,
        source: str = "miniature",
        backbone: str | None = None,
        preprocess: str | None = None,
        batch_size: int = 128,
        images: int | None = None,
        held_out: int = 256,
        store: str | None = None,
        crop: float | None = None,
        num_workers: int = 0,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        super().__init__(batch_size, num_workers, seed)
        if store is not None and crop is not None:
            raise InputError(
                "a store keeps one feature an image, so nothing can be cropped at random: drop one."
            )
        # Not to the logger: there, `backbone` may not differ from the module's own hyper-parameter.
        self.save_hyperparameters(logger=False)

    def prepare_data(self) -> None:
        """Encode what the store lacks, in one process; a killed run goes on from there."""
        if self.hparams["store"] is not None:
            backbone = self._load_backbone()
            embed_images(backbone, self._images(), store=open_store(self._store_folder(), backbone))

    def setup(self, stage: str | None = None) -> None:
        """Open the source and set `train` and `val`."""
        images = self._images()
        if self.hparams["store"] is not None:
            rows = NamedRows(images.ids, self._features(images.ids))
            self.train, self.val = self.held_out(rows, self.hparams["held_out"])
            return
        spec = self._spec()
        transform = self.transform_for(self.hparams["backbone"], self.hparams["preprocess"])
        keep = self.hparams["crop"]
        cropped = transform if keep is None else CroppedTransform(transform, spec.image_size, keep)
        self.train = self.held_out(TransformedImages(images, images.ids, cropped), self.hparams["held_out"])[
            0
        ]
        self.val = self.held_out(TransformedImages(images, images.ids, transform), self.hparams["held_out"])[
            1
        ]

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches."""
        return self.loader(self.train, self._collate(), training=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """The images that were held out, in order."""
        return self.loader(self.val, self._collate())

    def _collate(self) -> Callable[[list[Any]], Any]:
        return collate_images if self.hparams["store"] is None else collate_features

    def _images(self) -> ImageSource:
        return open_training_images(self.hparams["source"], self.hparams["images"])

    def _spec(self) -> BackboneSpec:
        return self.backbone_spec(self.hparams["backbone"], self.hparams["preprocess"])

    def _load_backbone(self) -> Any:
        spec = self._spec()
        name = self.backbone_name(self.hparams["backbone"])
        return load_backbone(name, preprocess=spec.preprocess, device=self.hparams["device"])

    def _store_folder(self) -> Path:
        spec = self._spec()
        mark = _digest([self.hparams["source"], spec.fingerprint()])
        return Path(self.hparams["store"]) / f"{spec.preprocess}-{mark}"

    def _features(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Un-normalised features [N, D] of images that `prepare_data` has encoded."""
        spec = self._spec()
        store = EmbeddingStore.open(self._store_folder(), spec.fingerprint(), width=spec.width)
        return store.vectors(ids)


class InvertedImagesDataModule(ImagesDataModule):
    """Images with the pseudo-words that OTI found for them, for `SEARLE`: batches are `InvertedBatch`.

    Words that are missing are found first (`mmret oti` does the same beforehand, and elsewhere).

    Args:
        source: As of `ImagesDataModule`, and so are the others that are not listed here.
        store: Folder of feature stores.
        words: A `.safetensors` file of words, or a folder in which each backbone and each way of inverting
            gets a file of its own.
        phrases: Concept → phrases: `miniature`, or a JSON file.
        inversion: The settings of OTI.
        inversion_batch_size: Images that are inverted side by side.
    """

    def __init__(
        self,
        source: str = "miniature",
        backbone: str | None = None,
        preprocess: str | None = None,
        batch_size: int = 256,
        images: int | None = None,
        held_out: int = 256,
        store: str = "runs/stores",
        words: str = "runs/words",
        phrases: str = "miniature",
        inversion: OTI = OTI(),  # noqa: B008  # a frozen value
        inversion_batch_size: int = 32,
        num_workers: int = 0,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        super().__init__(
            source, backbone, preprocess, batch_size, images, held_out, store, None, num_workers, seed, device
        )
        self.save_hyperparameters(logger=False, ignore=["inversion"])
        self.inversion = inversion

    def prepare_data(self) -> None:
        """Find what features and words are missing, in one process; a killed run goes on from there."""
        backbone = self._load_backbone()
        invert_images(
            backbone,
            self._images(),
            self._words_file(),
            oti=self.inversion,
            phrases=self._phrases(),
            batch_size=self.hparams["inversion_batch_size"],
            store=open_store(self._store_folder(), backbone),
        )

    def setup(self, stage: str | None = None) -> None:
        """Open features and words and set `train` and `val`."""
        ids = self._images().ids
        words = PseudoWords.load(self._words_file())
        rows = NamedRows(ids, self._features(ids), words.rows(ids).numpy())
        self.train, self.val = self.held_out(rows, self.hparams["held_out"])

    def _collate(self) -> Callable[[list[Any]], Any]:
        return collate_inverted

    def _phrases(self) -> ConceptPhrases | None:
        return ConceptPhrases.read(self.hparams["phrases"]) if self.inversion.lambda_gpt else None

    def _words_file(self) -> Path:
        path = Path(self.hparams["words"])
        if path.suffix == ".safetensors":
            return path
        settings = made_by(self.inversion, self._phrases())
        return path / f"{_digest([self.hparams['source'], self._spec().fingerprint(), settings])}.safetensors"


def collate_features(items: list[tuple[str, Tensor]]) -> FeatureBatch:
    """Features with ids to one batch."""
    ids, features = zip(*items, strict=True)
    return {"ids": list(ids), "features": torch.stack(features)}


def collate_inverted(items: list[tuple[str, Tensor, Tensor]]) -> InvertedBatch:
    """Features and pseudo-words with ids to one batch."""
    ids, features, words = zip(*items, strict=True)
    return {"ids": list(ids), "features": torch.stack(features), "words": torch.stack(words)}


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
