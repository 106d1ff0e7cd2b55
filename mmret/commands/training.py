"""`mmret fit|validate|test|predict`: LightningCLI in subclass mode.

Modules, data and callbacks are given by `class_path`; several `--config` are merged from left to right.
"""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI


class TrainingCLI(LightningCLI):
    """LightningCLI with the surprises taken out."""

    def __init__(self, args: Sequence[str], **kwargs: Any) -> None:
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
            args=list(args),
            **kwargs,
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse `args` as given, whatever stands in `sys.argv`."""
        self.config = parser.parse_args(args)


def main(argv: list[str]) -> int:
    """Run `fit`, `validate`, `test` or `predict` with the arguments that follow it."""
    TrainingCLI(argv)
    return 0
