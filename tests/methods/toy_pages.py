"""Pages of plain colours with a query each, as batches of a DataModule."""

from collections.abc import Callable, Sequence

import torch
from lightning.pytorch import LightningDataModule
from PIL import Image
from torch.utils.data import DataLoader

from mmret.backbones import resolve
from mmret.backbones.registry import _loader
from mmret.data.batches import QueryPageBatch
from mmret.data.resuming import ResumableLoader, ResumableSampler

COLOURS = ("red", "green", "blue", "white", "black", "yellow", "pink", "brown")


def page_batch(
    pixels: Callable[[Image.Image], torch.Tensor],
    stack: Callable[[Sequence[torch.Tensor]], torch.Tensor | Sequence[torch.Tensor]],
    rows: Sequence[int],
    hard: int = 0,
    also: Sequence[int] = (),
) -> QueryPageBatch:
    """Queries for the pages `rows`, with the `hard` pages behind each as hard negatives.

    Each is also answered by the pages so many places behind its own as `also` says. Pages are of two sizes.
    """
    count = len(COLOURS)
    shown = [*rows, *((row + step) % count for step in range(1, hard + 1) for row in rows)]
    pages = [pixels(Image.new("RGB", (32 + 8 * (row % 2), 32), COLOURS[row])) for row in shown]
    return {
        "query_ids": [f"q{row}" for row in rows],
        "queries": [f"a {COLOURS[row]} page" + " indeed" * (row % 3) for row in rows],
        "pages": stack(pages),
        "page_ids": [COLOURS[row] for row in shown],
        "relevant": [frozenset(COLOURS[(row + step) % count] for step in (0, *also)) for row in rows],
    }


class ToyPages(LightningDataModule):
    """Eight pages in batches, in order, to train on and to validate on."""

    def __init__(
        self,
        backbone: str,
        batch_size: int = 4,
        hard: int = 0,
        also: Sequence[int] = (),
        val_size: int = 8,
        preprocess: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters("preprocess", logger=False)
        self.backbone, self.batch_size, self.val_size = backbone, batch_size, val_size
        self.hard, self.also = hard, also

    def setup(self, stage: str | None = None) -> None:
        spec = resolve(self.backbone, self.hparams["preprocess"])
        self.transform = _loader(spec.loader).transform_of(spec)

    def _collate(self, rows: Sequence[int]) -> QueryPageBatch:
        return page_batch(self.transform.pixels, self.transform.stack, rows, self.hard, self.also)

    def _sampler(self) -> ResumableSampler:
        devices = (self.trainer.world_size, self.trainer.global_rank) if self.trainer is not None else (1, 0)
        return ResumableSampler(range(len(COLOURS)), *devices, shuffle=False)  # type: ignore[arg-type]

    def train_dataloader(self) -> DataLoader[int]:
        return ResumableLoader(
            range(len(COLOURS)),  # type: ignore[arg-type]
            batch_size=self.batch_size,
            collate_fn=self._collate,
            sampler=self._sampler(),
        )

    def val_dataloader(self) -> DataLoader[int]:
        return DataLoader(
            range(len(COLOURS)),  # type: ignore[arg-type]
            batch_size=self.val_size,
            collate_fn=self._collate,
            sampler=self._sampler(),
        )
