"""A Lightning DataModule of queries and pages: what page encoders (DSE) train on."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Subset

from mmret.data.datamodules import BatchedDataModule
from mmret.data.drawn_pages import Draw, DrawingSampler, DrawnPages, PageDrawing, PageItem
from mmret.data.negative_files import read_negatives
from mmret.data.page_sources import TRAIN, open_query_pages
from mmret.data.query_pages import QueryPages
from mmret.errors import InputError, InputWarning


class QueryPagesDataModule(BatchedDataModule):
    """Queries with their pages, for `DocumentScreenshotEmbedding`: batches are `QueryPageBatch`.

    In each epoch a query comes once, with one of its pages and `hard_negatives` others, drawn by (seed, epoch, query);
    a last batch that is not full is left out.

    Args:
        source: Where the set is and in what layout: see `mmret.data.page_sources`.
        root: Folder of a published set, where it is not below the data folder.
        backbone: Name whose preprocessing is applied; by default that of the trained module.
        preprocess: Another preprocessing than the backbone's own, by name; the trained module must have the same.
        batch_size: Queries a batch and device.
        hard_negatives: How many hard negatives each query brings along.
        negatives: A file of mined negatives (`mmret mine`), in the place of those that the set names.
        negative_range: First and last rank, from 1, of the negatives to draw from; by default all that are listed.
        held_out: Queries kept for validation, at most; where they belong to documents, whole documents are. Or the
            names of documents.
        split: Of the source, that trains.
        val_split: The split that validates, in the place of `held_out`.
        num_workers: Processes that read pages; 0 reads in the main process.
        seed: Of the order, of all draws and of what is held out.
    """

    def __init__(
        self,
        source: str,
        root: str | None = None,
        backbone: str | None = None,
        preprocess: str | None = None,
        batch_size: int = 16,
        hard_negatives: int = 0,
        negatives: str | None = None,
        negative_range: list[int] | None = None,
        held_out: int | list[str] = 0,
        split: str = TRAIN,
        val_split: str | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers, seed)
        if val_split is not None and held_out:
            raise InputError(f"val_split is {val_split!r} and held_out {held_out!r}; give one of them.")
        self.save_hyperparameters(logger=False)

    def setup(self, stage: str | None = None) -> None:
        """Read the source (ids and texts), and set `data`, `drawing`, and the positions that train."""
        self.transform = self.transform_for(self.hparams["backbone"], self.hparams["preprocess"])
        self.data = self._open(self.hparams["split"])
        self.positions, held_out = self.data.hold_out(self.hparams["held_out"], self.seed)
        self.drawing = self._drawing(self.data)
        if self.hparams["negatives"] is not None:
            self.use_negatives(self.hparams["negatives"])
        elif short := self.drawing.short(self.positions):
            self._warn_of_short(short)
        val_split = self.hparams["val_split"]
        if val_split is None:
            self.val = self._validation(self.data, self.drawing, held_out)
        else:
            data = self._open(val_split)
            self.val = self._validation(data, self._drawing(data), range(len(data.queries)))

    def use_negatives(self, path: str | Path) -> None:
        """Train with the negatives of a file from the next epoch on; what validates keeps those that it has.

        Raises `InputError`: see `read_negatives`.
        """
        queries = {query.id for query in self.data.queries}
        self.drawing.negatives = read_negatives(path, queries, self.data.pages.ids)
        if short := self.drawing.short(self.positions):
            self._warn_of_short(short)

    def train_dataloader(self) -> DataLoader[PageItem]:
        """Shuffled batches; a resumed training goes on where it was, with the same draws."""
        items = DrawnPages(self.data.queries, self.data.pages, self.transform)
        sampler = DrawingSampler(self.positions, self.drawing, *self.devices, self.seed)
        return self.loader(items, items.collate, training=True, sampler=sampler)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[PageItem] | list[Any]:
        """What was held out, in order, always with the same draws; no loader where nothing was."""
        if not len(self.val):
            return []
        items: Any = self.val.dataset
        return self.loader(self.val, items.collate)

    def _open(self, split: str) -> QueryPages:
        return open_query_pages(self.hparams["source"], split, self.hparams["root"])

    def _drawing(self, data: QueryPages) -> PageDrawing:
        count, ranks = self.hparams["hard_negatives"], self.hparams["negative_range"]
        return PageDrawing(data, count, ranks, self.seed)

    def _validation(
        self, data: QueryPages, drawing: PageDrawing, positions: Sequence[int]
    ) -> Subset[PageItem]:
        items: Any = DrawnPages(data.queries, data.pages, self.transform)
        draws: list[Draw] = [drawing(position, 0) for position in positions]
        return Subset(items, draws)  # type: ignore[arg-type]  # a draw is what these items are asked for

    def _warn_of_short(self, count: int) -> None:
        wanted = self.hparams["hard_negatives"]
        warnings.warn(
            f"{count:,} of {len(self.positions):,} queries have fewer than {wanted} hard negatives listed; random "
            "pages fill them up.",
            InputWarning,
            stacklevel=2,
        )
