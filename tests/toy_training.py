"""A module and a data module small enough to run through the real `mmret fit|validate|test|predict`."""

import errno
import os
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mmret.errors import InputError


class Linear(LightningModule):
    """A linear layer; `seen` collects what its steps were given, for the tests to look at."""

    built: ClassVar[list["Linear"]] = []

    def __init__(
        self,
        width: int = 2,
        rate: float = 0.1,
        tags: list[str] | None = None,
        optimizer: OptimizerCallable = torch.optim.SGD,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["optimizer"])
        self.width, self.rate, self.tags, self.optimizer = width, rate, tags, optimizer
        self.layer = nn.Linear(3, width)
        self.seen: list[str] = []
        Linear.built.append(self)

    def _loss(self, stage: str, batch: list[Tensor]) -> Tensor:
        self.seen.append(stage)
        loss: Tensor = self.layer(batch[0]).square().mean()
        self.log(f"{stage}/loss", loss)
        return loss

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        return self._loss("fit", batch)

    def validation_step(self, batch: list[Tensor], index: int) -> Tensor:
        return self._loss("validate", batch)

    def test_step(self, batch: list[Tensor], index: int) -> Tensor:
        return self._loss("test", batch)

    def predict_step(self, batch: list[Tensor], index: int) -> Any:
        self.seen.append("predict")
        return self.layer(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer(self.parameters())


class Renamed(Linear):
    """Another class that shares two arguments with the first, with other defaults."""

    def __init__(self, width: int = 4, rate: float = 0.4) -> None:
        super().__init__(width=width, rate=rate)


class Interrupted(Linear):
    """Ctrl+C in the middle of the second batch."""

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        if index == 1:
            raise KeyboardInterrupt
        return super().training_step(batch, index)


class FullDisk(Linear):
    """The disk runs full in the second batch."""

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        if index == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "logs/metrics.csv")
        return super().training_step(batch, index)


class Choosy(Linear):
    """Refuses what it is given, as a class does whose arguments are of the right type and wrong all the same."""

    def __init__(self, pdv: dict[str, float] | None = None) -> None:
        super().__init__()
        if pdv:
            raise InputError(f"there is no knob {next(iter(pdv))!r}; PDV has beta")


class Rows(LightningDataModule):
    """`size` random rows for every stage."""

    def __init__(self, size: int = 8, batch_size: int = 4) -> None:
        super().__init__()
        self.size, self.batch_size = size, batch_size

    def _loader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(TensorDataset(torch.randn(self.size, 3)), batch_size=self.batch_size)

    train_dataloader = val_dataloader = test_dataloader = predict_dataloader = _loader
