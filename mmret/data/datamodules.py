"""Lightning DataModules: captioned images, captions alone, and a benchmark's queries and gallery.

They hold names and numbers only, so building one from a config is cheap; files are read in `setup`. A source
is one text: `miniature` (the generated world), `folder:PATH` (see `mmret.data.annotated_folder`) or, for
captions alone, a file of them.
"""

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from lightning.pytorch import LightningDataModule
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.transforms import Compose, InterpolationMode, RandomAffine

from mmret.backbones import resolve
from mmret.backbones.preprocess import ImageTransform
from mmret.backbones.registry import transform_of
from mmret.backbones.spec import BackboneSpec
from mmret.data.annotated_folder import load_captioned_images, split_captions
from mmret.data.batches import (
    MapStyle,
    Transform,
    TransformedImages,
    TransformedPairs,
    collate_captioned,
    collate_captions,
    collate_images,
    collate_indices,
)
from mmret.data.benchmark import Benchmark
from mmret.data.captions import CaptionedImages, Captions
from mmret.data.resuming import ResumableLoader, ResumableSampler
from mmret.errors import InputError

Item = TypeVar("Item")
_FOLDER = "folder:"


class BatchedDataModule(LightningDataModule):
    """The settings that all modules share, and how their loaders are made.

    Args:
        batch_size: Items a batch and device.
        num_workers: Processes that read; 0 reads in the main process.
        seed: Of the order and of what is held out.
    """

    def __init__(self, batch_size: int, num_workers: int, seed: int) -> None:
        super().__init__()
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed

    def transform_for(self, backbone: str | None, preprocess: str | None) -> ImageTransform:
        """The preprocessing of a named backbone, or of the module that is being trained."""
        return transform_of(self.backbone_spec(backbone, preprocess))

    def backbone_spec(self, backbone: str | None, preprocess: str | None) -> BackboneSpec:
        """The spec of a named backbone, or of that of the module that is being trained."""
        return resolve(self.backbone_name(backbone), preprocess)

    def backbone_name(self, backbone: str | None) -> str:
        """The name given, or that of the trained module's backbone; raises `InputError` where there is neither."""
        module = self.trainer.lightning_module if self.trainer else None
        name = backbone or (module.hparams.get("backbone") if module else None)
        if not isinstance(name, str):
            raise InputError(f"{type(self).__name__} knows no backbone; give it one: `backbone: NAME`.")
        return name

    def loader(
        self,
        dataset: MapStyle[Item],
        collate: Callable[[list[Item]], Any] | None = None,
        *,
        training: bool = False,
        shuffle: bool = True,
        groups: Sequence[Hashable] = (),
        together: int = 1,
        sampler: ResumableSampler | None = None,
    ) -> DataLoader[Item]:
        """Batches in a fixed order; for training, shuffled by (seed, epoch) alone unless `shuffle` is off.

        With `groups`, one an item, up to `together` of a group stand side by side (see `side_by_side`). A `sampler`
        that makes an order of its own, for this process among `devices`, takes the place of all these.
        A resumed training goes on where it was. It leaves out the last batch where that is not full: a
        contrastive loss is comparable only between batches of one size.
        """
        items = cast("Dataset[Item]", dataset)
        settings: dict[str, Any] = {
            "batch_size": self.batch_size,
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "pin_memory": torch.cuda.is_available(),
            "collate_fn": collate,
        }
        if not training:
            return DataLoader(items, **settings)
        if sampler is None:
            sampler = ResumableSampler(items, *self.devices, shuffle=shuffle, seed=self.seed)
            sampler.groups, sampler.together = groups, together
        full_batches = len(sampler) >= self.batch_size
        return ResumableLoader(items, sampler=sampler, drop_last=full_batches, **settings)

    @property
    def devices(self) -> tuple[int, int]:
        """How many devices train, and the number of this one."""
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def held_out(self, dataset: MapStyle[Item], count: int) -> tuple[Subset[Item], Subset[Item]]:
        """(train, validation): `count` items, drawn by the seed, are kept for validation."""
        total = len(dataset)
        if not 0 <= count < total:
            raise InputError(f"held_out is {count:,}, which leaves nothing of {total:,} items to train on.")
        order = torch.randperm(total, generator=torch.Generator().manual_seed(self.seed)).tolist()
        items = cast("Dataset[Item]", dataset)
        return Subset(items, sorted(order[count:])), Subset(items, sorted(order[:count]))


class CaptionedImagesDataModule(BatchedDataModule):
    """Captioned images, for `ContrastivePretraining`: batches are `CaptionedBatch`.

    Args:
        source: `miniature`, or `folder:PATH` with its `captions.jsonl`.
        backbone: Name whose preprocessing is applied; by default that of the trained module.
        preprocess: Another preprocessing than the backbone's own, by name.
        batch_size: Pairs a batch and device.
        pairs: How many training pairs the miniature world draws; a folder has its own.
        single_group_pairs: How many of these, the first, show one group of objects (see
            `mmret.data.miniature.CaptionedScenes`).
        held_out: Pairs kept for validation.
        val_split: The split of a folder that validates, each image with its first caption, in place of pairs
            held out of train.
        together: How many pairs of one group (`group` in `captions.jsonl`) stand side by side, at most: the hard
            negatives that teach in what the images of a group differ.
        jitter: How far training images are moved and zoomed (shares of their side) and turned (of 45°), at
            random and on white; 0 leaves them as they are.
        num_workers: Processes that read images; 0 reads in the main process.
        seed: Of the order and of what is held out.
    """

    def __init__(
        self,
        source: str = "miniature",
        backbone: str | None = None,
        preprocess: str | None = None,
        batch_size: int = 256,
        pairs: int = 100_000,
        single_group_pairs: int = 0,
        held_out: int = 1_024,
        val_split: str | None = None,
        together: int = 1,
        jitter: float = 0.0,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers, seed)
        # Not to the logger: there, `backbone` may not differ from the module's own hyper-parameter.
        self.save_hyperparameters(logger=False)

    def setup(self, stage: str | None = None) -> None:
        """Open the source and set `train` and `val`."""
        transform = self.transform_for(self.hparams["backbone"], self.hparams["preprocess"])
        split, jitter = self.hparams["val_split"], self.hparams["jitter"]
        pairs = self._pairs()
        train, val = self.held_out(pairs, 0 if split else self.hparams["held_out"])
        self.groups = [pairs.groups[i] for i in train.indices] if isinstance(pairs, CaptionedImages) else []
        self.train = TransformedPairs(train, Compose([_moved(jitter), transform]) if jitter else transform)
        self.val = TransformedPairs(self._first_captions(split) if split else val, transform)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, str]]:
        """Shuffled batches; the miniature world's pairs keep their order, in which families stand together."""
        shuffle, together = self.hparams["source"] != "miniature", self.hparams["together"]
        return self.loader(
            self.train,
            collate_captioned,
            training=True,
            shuffle=shuffle,
            groups=self.groups if together > 1 else (),
            together=together,
        )

    def val_dataloader(self) -> DataLoader[tuple[Tensor, str]]:
        """The pairs that were held out, in order."""
        return self.loader(self.val, collate_captioned)

    def _first_captions(self, split: str) -> Subset[tuple[Image.Image, str]]:
        """Each image of a folder's split once: an image's other captions would count as negatives of it."""
        pairs = self._pairs(split)
        if not isinstance(pairs, CaptionedImages):
            raise InputError(f"val_split is {split!r}; only a folder has splits to validate on.")
        items = cast("Dataset[tuple[Image.Image, str]]", pairs)
        return Subset(items, [index for index, (_, place) in enumerate(pairs.groups) if place == 0])

    def _pairs(self, split: str = "train") -> CaptionedImages | MapStyle[tuple[Image.Image, str]]:
        source: str = self.hparams["source"]
        if source == "miniature":
            from mmret.data.miniature import CaptionedScenes

            total = self.hparams["pairs"] + self.hparams["held_out"]
            return CaptionedScenes(total, self.hparams["single_group_pairs"])
        if source.startswith(_FOLDER):
            return load_captioned_images(source.removeprefix(_FOLDER), split)
        raise InputError(f"source is {source!r}; captioned images come from 'miniature' or 'folder:PATH'.")


def _moved(jitter: float) -> Transform:
    """A random shift, zoom and turn of an image, on white; drawn from torch's global generator."""
    if not 0 < jitter < 1:
        raise InputError(f"jitter is {jitter:g}; give a share of the image's side, from 0 to less than 1.")
    zoom, bilinear = (1 - jitter, 1 + jitter), InterpolationMode.BILINEAR
    moved: Transform = RandomAffine(45 * jitter, (jitter, jitter), zoom, interpolation=bilinear, fill=255)
    return moved


class CaptionsDataModule(BatchedDataModule):
    """Captions alone, for methods that train on text (LinCIR): batches are `CaptionBatch`.

    Args:
        source: `miniature`, `folder:PATH` (its train captions), or a `.txt`, `.json` or `.jsonl` file.
        batch_size: Captions a batch and device.
        captions: How many captions the miniature world writes; files have their own.
        held_out: Captions kept for validation.
        num_workers: Processes that read; text needs none.
        seed: Of the order and of what is held out.
    """

    def __init__(
        self,
        source: str = "miniature",
        batch_size: int = 512,
        captions: int = 100_000,
        held_out: int = 1_024,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers, seed)
        self.save_hyperparameters(logger=False)

    def setup(self, stage: str | None = None) -> None:
        """Read the source and set `train` and `val`."""
        self.train, self.val = self.held_out(self._captions(), self.hparams["held_out"])

    def train_dataloader(self) -> DataLoader[str]:
        """Shuffled batches."""
        return self.loader(self.train, collate_captions, training=True)

    def val_dataloader(self) -> DataLoader[str]:
        """The captions that were held out, in order."""
        return self.loader(self.val, collate_captions)

    def _captions(self) -> Captions:
        source: str = self.hparams["source"]
        if source == "miniature":
            from mmret.data.miniature import training_captions

            return Captions(training_captions(self.hparams["captions"] + self.hparams["held_out"]))
        if source.startswith(_FOLDER):
            records = split_captions(source.removeprefix(_FOLDER))
            return Captions(text for record in records for text in record.texts)
        if not Path(source).is_file():
            raise InputError(
                f"source is {source!r}: neither 'miniature', 'folder:PATH' nor a file of captions."
            )
        return Captions.read(source)


class BenchmarkDataModule(BatchedDataModule):
    """A benchmark for `ZeroShotCIR`: two loaders, images (`ImageBatch`), then queries (`QueryIndices`).

    Images are preprocessed as the benchmark's protocol says.

    Args:
        benchmark: A name for `mmret.load_benchmark`: `miniature`, `emoji`, `folder:PATH`, `cirr`, …
        split: Its split.
        root: Folder of the data, for benchmarks that need one.
        allow_missing: Go on without images that are not there.
        backbone: Name whose input size and normalisation apply; by default that of the tested module.
        batch_size: Images or queries a batch and device.
        num_workers: Processes that read images; 0 reads in the main process.
    """

    benchmark: Benchmark

    def __init__(
        self,
        benchmark: str = "miniature",
        split: str = "test",
        root: str | None = None,
        backbone: str | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        allow_missing: bool = False,
    ) -> None:
        super().__init__(batch_size, num_workers, seed=0)
        self.save_hyperparameters(logger=False)

    def setup(self, stage: str | None = None) -> None:
        """Load the benchmark and the preprocessing; a gallery of texts raises InputError."""
        from mmret.data import load_benchmark

        name, split, root = (self.hparams[key] for key in ("benchmark", "split", "root"))
        self.benchmark = load_benchmark(name, split, root, allow_missing=self.hparams["allow_missing"])
        if self.benchmark.texts:
            raise InputError(
                f"{name} searches texts, which this data module does not load; use a table's row."
            )
        self.transform = self.transform_for(self.hparams["backbone"], self.benchmark.protocol.preprocess)

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """[every image once, every query once], both in order."""
        images = TransformedImages(self.benchmark.images, self.benchmark.image_ids, self.transform)
        indices = range(len(self.benchmark.queries))
        return [self.loader(images, collate_images), self.loader(indices, collate_indices)]
