"""Hard negatives mined anew between epochs, with the encoder as it is then (dynamic re-mining)."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from mmret.backbones.base import Backbone
from mmret.data.pages_datamodule import QueryPagesDataModule
from mmret.embedding import open_store
from mmret.errors import InputError
from mmret.hard_negatives import Mining, mine_by_vectors
from mmret.methods.sharding import keeps_whole

FILE = "negatives-epoch-{}.jsonl"
_STORE = ".mining-"


class RemineNegatives(Callback):
    """At an epoch's end, mines hard negatives with the backbone in training, which the next epochs draw from.

    The module has its backbone as `model` (`DocumentScreenshotEmbedding`), the data come from `QueryPagesDataModule`.
    The first process encodes and searches while the others wait; all of them then read
    `<root>/negatives-epoch-N.jsonl`, which stays, and which a training that is resumed takes up. Where devices have no
    file system in common, or wait for one another less long than the search takes (`DDPStrategy(timeout=…)`), mine
    between two trainings with `mmret mine`.

    Vectors of pages lie in `<root>/.mining-…` until the file is there: where a training that was killed meanwhile comes
    to the same epoch with the same weights, it goes on with them.

    Args:
        every_n_epochs: How often; nothing is mined after an epoch that is known to be the last. (Lightning's
            `EarlyStopping` may stop a training behind this, unless it validates within epochs.)
        depth, negatives, skip_top, positive_threshold, positive_margin, max_score: The rules: see
            `mmret.hard_negatives.Mining`.
        max_pages: Search only so many pages, others in each epoch: the queries' own, and more at random; None: all.
        batch_size: Pages that are encoded at a time; by default the backbone's own number.
        workers: Processes that read pages ahead, as of `mmret.embedding.embed_documents`.

    Raises:
        InputError: Rules that cannot be; another module or data module, no hard negatives to draw, a model in parts.
    """

    def __init__(
        self,
        every_n_epochs: int = 1,
        depth: int = 100,
        negatives: int = 20,
        skip_top: int = 0,
        positive_threshold: float | None = 0.95,
        positive_margin: float | None = None,
        max_score: float | None = None,
        max_pages: int | None = None,
        batch_size: int | None = None,
        workers: int | None = None,
    ) -> None:
        super().__init__()
        if every_n_epochs < 1:
            raise InputError(f"every_n_epochs is {every_n_epochs}; give a number from 1.")
        self.mining = Mining(depth, negatives, skip_top, positive_threshold, positive_margin, max_score)
        self.every_n_epochs, self.max_pages = every_n_epochs, max_pages
        self.batch_size, self.workers = batch_size, workers
        self.mined: dict[str, Any] = {"epoch": None, "path": None}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a training that this cannot serve."""
        data = _data(trainer)
        if not data.hparams["hard_negatives"]:
            raise InputError(
                "RemineNegatives mines what no batch takes: give the data hard_negatives of 1 or more."
            )
        if not keeps_whole(trainer.strategy):
            raise InputError(
                f"RemineNegatives needs the whole model in each process, which {type(trainer.strategy).__name__} does "
                "not keep; mine between two trainings with `mmret mine`."
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take up the negatives of the training that is resumed.

        A checkpoint of an epoch's last batch was written before the epoch ended: what was mined then is mined again.
        """
        last = trainer.current_epoch // self.every_n_epochs * self.every_n_epochs - 1
        if last >= 0 and self.mined["epoch"] != last:
            self._renew(trainer, pl_module, last)
        elif self.mined["path"] is not None:
            _data(trainer).use_negatives(self.mined["path"])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Mine, and hand the file to the data."""
        done = trainer.current_epoch + 1
        if done % self.every_n_epochs == 0 and not _ends(trainer):
            self._renew(trainer, pl_module, trainer.current_epoch)

    def _renew(self, trainer: Trainer, module: LightningModule, epoch: int) -> None:
        """Let the first process mine for what follows on an epoch, and all of them read it."""
        if getattr(trainer, "fast_dev_run", False):
            return
        path = Path(trainer.default_root_dir) / FILE.format(epoch)
        if trainer.is_global_zero:
            self._mine(trainer, module, epoch, path)
        trainer.strategy.barrier("negatives are mined")
        self.mined = {"epoch": epoch, "path": str(path)}
        _data(trainer).use_negatives(path)

    def _mine(self, trainer: Trainer, module: LightningModule, epoch: int, path: Path) -> None:
        backbone, data = _backbone(module), _data(trainer)
        queries = tuple(data.data.queries[position] for position in data.positions)
        place = f"{_STORE}epoch-{epoch}-step-{trainer.global_step}-{weights_mark(backbone)}"
        with resting(backbone), trainer.precision_plugin.forward_context():
            mined = mine_by_vectors(
                backbone,
                replace(data.data, queries=queries),
                path,
                self.mining,
                store=open_store(path.parent / place, backbone),
                max_pages=self.max_pages,
                seed=epoch,
                batch_size=self.batch_size,
                workers=self.workers,
                made_by={"epoch": epoch, "step": trainer.global_step},
            )
        for store in path.parent.glob(f"{_STORE}*"):
            shutil.rmtree(store)
        rank_zero_info(f"epoch {epoch}: {mined}: {path}")

    def state_dict(self) -> dict[str, Any]:
        """The file that is drawn from, and the epoch that it was mined after."""
        return self.mined

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Draw from the file of a checkpoint."""
        self.mined = {**self.mined, **state_dict}


@contextmanager
def resting(backbone: Backbone) -> Iterator[None]:
    """Within: evaluation mode, no gradients; afterwards every part is as it was, and so is torch's random state."""
    modes = [(module, module.training) for module in backbone.modules()]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        backbone.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode


def weights_mark(backbone: Backbone) -> str:
    """What two trainings have in common where all of their weights are the same, and else have not: 16 letters."""
    digest = blake2b(digest_size=8)
    for weight in backbone.state_dict().values():
        digest.update(weight.detach().cpu().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _ends(trainer: Trainer) -> bool:
    """Whether no epoch follows on the one that just ended, as far as can be told."""
    stops = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
    return stops or 0 < trainer.max_steps <= trainer.global_step


def _data(trainer: Trainer) -> QueryPagesDataModule:
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, QueryPagesDataModule):
        raise InputError(f"RemineNegatives mines for QueryPagesDataModule, not for {type(data).__name__}.")
    return data


def _backbone(module: LightningModule) -> Backbone:
    backbone = getattr(module, "model", None)
    if not isinstance(backbone, Backbone):
        raise InputError(
            f"RemineNegatives mines with a module's `model`, which {type(module).__name__} has not."
        )
    return backbone
