"""A Lightning DataModule of generated pages with questions: what the miniature page encoder trains on."""

from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from typing import Final, NamedTuple

import torch
from torch.utils.data import DataLoader
from torchvision.transforms.functional import pil_to_tensor

from mmret.data.batches import QueryPageBatch
from mmret.data.datamodules import BatchedDataModule
from mmret.data.miniature_pages import Page, PageQuestion, draw_page, relevant_pages, training_page
from mmret.data.miniature_pages.sample import Stage
from mmret.errors import InputError

_STAGES: Final[dict[str, Stage]] = {
    "layers": "layer",
    "words": "word",
    "lists": "words",
    "blocks": "block",
    "texts": "text",
    "pages": "page",
}
"""Option → stage, in the order of the curriculum."""


class PageItem(NamedTuple):
    """A page of the training stream with questions about it; its id is its number."""

    id: str
    stage: Stage
    page: Page
    questions: tuple[PageQuestion, ...]


class MiniaturePages:
    """Training pages by number; `stages` says how many there are of each stage, in their order.

    Each has up to `questions` questions.
    """

    def __init__(self, stages: Mapping[Stage, int], stream: str, questions: int = 1) -> None:
        self.names, self.stream, self.questions = tuple(stages), stream, questions
        self.ends = tuple(accumulate(stages.values()))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> PageItem:
        stage = self.names[bisect_right(self.ends, index)]
        return PageItem(
            f"{self.stream}-{index}", stage, *training_page(index, stage, self.stream, self.questions)
        )


class MiniaturePagesDataModule(BatchedDataModule):
    """Generated pages and questions, for `DocumentScreenshotEmbedding`: batches are `QueryPageBatch`.

    The training is a curriculum in the order of the stream (`mmret.data.miniature_pages.sample`): text layers, without
    which towers that know nothing wait for each other; then single words, words and blocks on small pages (64 × 64
    pixels), where reading is learnt at a quarter of the cost; then whole pages (128 × 128). Every page is met once. All
    pages of a batch that answer a question are known to be relevant to it.

    Args:
        layers: How many text layers, to begin with; as each of these numbers, a multiple of `batch_size` times the
            devices.
        words: How many pages with one word.
        lists: How many pages with one to four words.
        blocks: How many small pages with a block.
        texts: How many whole pages that are asked for by words alone.
        pages: How many whole pages that are asked for anything.
        held_out: Whole pages of another stream, for validation.
        questions: How many questions ask for a training page, at most: each tells the image tower more of it, at the
            text tower's cost alone. A page is asked for no more often than it has words.
        batch_size: Pages a batch and device.
        num_workers: Processes that draw; 0 draws in the main process.
        seed: Of the stream; None: the run's own (`seed_everything`).
    """

    def __init__(
        self,
        layers: int = 0,
        words: int = 0,
        lists: int = 0,
        blocks: int = 0,
        texts: int = 0,
        pages: int = 102_400,
        held_out: int = 512,
        questions: int = 1,
        batch_size: int = 128,
        num_workers: int = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, torch.initial_seed() if seed is None else seed)
        self.save_hyperparameters(logger=False)

    def setup(self, stage: str | None = None) -> None:
        """Set `train` and `val`; raises `InputError` where a batch would hold pages of two stages."""
        counts: dict[Stage, int] = {
            stage: self.hparams[option] for option, stage in _STAGES.items() if self.hparams[option]
        }
        together = self.batch_size * self.devices[0]
        for option in _STAGES:
            if self.hparams[option] % together:
                raise InputError(
                    f"{option} is {self.hparams[option]:,}; give a multiple of {together:,}, the batch_size times the "
                    "devices: a batch holds pages of one stage."
                )
        if not counts:
            raise InputError(f"There is no page to train on; give one of {', '.join(_STAGES)}.")
        if self.hparams["questions"] < 1:
            raise InputError(f"questions is {self.hparams['questions']}; give a number from 1.")
        self.train = MiniaturePages(counts, str(self.seed), self.hparams["questions"])
        self.val = MiniaturePages({"page": self.hparams["held_out"]}, "val")

    def train_dataloader(self) -> DataLoader[PageItem]:
        """The stream in its order: nothing in it repeats."""
        return self.loader(self.train, collate_pages, training=True, shuffle=False)

    def val_dataloader(self) -> DataLoader[PageItem]:
        """The pages of the other stream, in order."""
        return self.loader(self.val, collate_pages)


def collate_pages(items: list[PageItem]) -> QueryPageBatch:
    """Pages, drawn at their own size or as their text layers, and questions to one batch."""
    ids, pages = [item.id for item in items], [item.page for item in items]
    own = [row for row, item in enumerate(items) for _ in item.questions]
    questions = [question for item in items for question in item.questions]
    return {
        "query_ids": [f"{ids[row]}/{question.text}" for row, question in zip(own, questions, strict=True)],
        "queries": [question.text for question in questions],
        "pages": _seen(items[0].stage, pages),
        "page_ids": ids,
        "relevant": relevant_pages(questions, pages, ids),
        "own": own,
    }


def _seen(stage: Stage, pages: list[Page]) -> torch.Tensor | list[str]:
    """What a batch of a stage has of its pages."""
    if stage == "layer":
        return [page.text for page in pages]
    return torch.stack([pil_to_tensor(draw_page(page)) for page in pages])
