"""Images read and brought to their size, batch by batch, ahead of the model."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mmret.backbones.base import Backbone
from mmret.backbones.preprocess import ImageTransform, Pixels
from mmret.data.cores import usable_cores
from mmret.data.images import ImageSource
from mmret.errors import InputError

_FEW_IMAGES = 256  # reading so many takes about as long as starting worker processes


class PixelBatch(NamedTuple):
    """Images read: their ids, uint8 [B, 3, H, W] or B × [3, H, W], and why others could not be read."""

    ids: list[str]
    pixels: Pixels | None
    failures: dict[str, str]


class _Pixels(Dataset[tuple[str, Tensor | str]]):
    """Reads and preprocesses images; a broken one becomes the sentence that says so."""

    def __init__(
        self, images: ImageSource, ids: Sequence[str], transform: ImageTransform, threads: int
    ) -> None:
        self._images = images
        self._ids = ids
        self._transform = transform
        self._threads = threads

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> tuple[str, Tensor | str]:
        id = self._ids[index]
        try:
            return id, self._transform.pixels(self._images.read(id))
        except InputError as error:
            return id, str(error)

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[str, Tensor | str]]:
        """Return a batch; Pillow decodes and resizes outside Python's lock, so threads do help."""
        with ThreadPoolExecutor(self._threads) as pool:
            return list(pool.map(self.__getitem__, indices))


def _collate(transform: ImageTransform, items: Sequence[tuple[str, Tensor | str]]) -> PixelBatch:
    read = [(id, pixels) for id, pixels in items if isinstance(pixels, Tensor)]
    failures = {id: why for id, why in items if isinstance(why, str)}
    stacked = transform.stack([pixels for _, pixels in read]) if read else None
    return PixelBatch([id for id, _ in read], stacked, failures)


def pixel_batches(
    backbone: Backbone,
    images: ImageSource,
    ids: Sequence[str],
    batch_size: int | None = None,
    workers: int | None = None,
) -> Iterable[PixelBatch]:
    """Read and preprocess images in the order of `ids`: see `embed_images` for `workers`."""
    gpu = backbone.device.type == "cuda"
    processes = _default_workers(len(ids), gpu) if workers is None else workers
    return DataLoader(
        _Pixels(images, ids, backbone.transform, threads=1 if processes else min(usable_cores(), 16)),
        batch_size=batch_size or backbone.images_at_once,
        num_workers=processes,
        prefetch_factor=4 if processes else None,
        pin_memory=gpu,
        collate_fn=partial(_collate, backbone.transform),
    )


def _default_workers(count: int, gpu: bool) -> int:
    """A GPU leaves the cores to processes that read ahead.

    A model on the CPU needs all cores itself, and processes beside it would displace its threads, so there
    reading and encoding take turns. (Reasoned, not measured; `bench/encode.py` compares the two.)
    """
    return min(usable_cores(), 16) if gpu and count > _FEW_IMAGES else 0
