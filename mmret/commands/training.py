"""`mmret fit|validate|test|predict`: LightningCLI in subclass mode.

Modules, data and callbacks are given by `class_path`. Several `--config` are merged from left to right, then
come single options: a later value replaces an earlier one, whole lists included. A list grows instead with a
plus sign: `callbacks+:` in a config, `--trainer.callbacks+=` on the command line.

`trainer.default_root_dir` alone says where a run leaves its log, its checkpoints and its weights.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from jsonargparse import ArgumentError, set_dumper
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger

from mmret.commands.allocator import keep_freed_memory
from mmret.commands.configuration import (
    fresh_arguments_for_a_new_class,
    one_sentence,
    weakest_config,
    whole_lists,
    write_yaml,
)
from mmret.errors import UNWRITABLE, InputError, InputWarning

#: Runs are repeatable unless asked otherwise.
DEFAULT_SEED = 0


class TrainingCLI(LightningCLI):
    """LightningCLI on `args` (the subcommand's name first), with its surprises taken out."""

    def __init__(self, args: Sequence[str]) -> None:
        strict = {"exit_on_error": False, "allow_abbrev": False}
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            seed_everything_default=DEFAULT_SEED,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={"default_root_dir": "runs"},
            parser_kwargs={"prog": "mmret", **strict, **{name: dict(strict) for name in self.subcommands()}},
            args=list(args),
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the list `args`, whatever stands in `sys.argv`, over its checkpoint's hyper-parameters."""
        words = cast("list[str]", args)
        with fresh_arguments_for_a_new_class(), whole_lists():
            self.config = parser.parse_args(words)
            weakest = weakest_config(self.config[self.config.subcommand])
            if weakest:
                self.config = parser.parse_args([words[0], *weakest, *words[1:]])

    def instantiate_classes(self) -> None:
        """Build the trainer, the module and the data.

        Raises:
            InputError: A class refuses its arguments. jsonargparse catches what its constructor raised, and
                tells it as one of many types that did not fit.
        """
        try:
            super().instantiate_classes()
        except ValueError as error:
            if not str(error).startswith("Does not validate"):
                raise
            raise InputError(one_sentence(str(error))) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer; a log and checkpoints that are given no place lie in its root folder.

        The log is `metrics.csv`, that of validate, test or predict in a folder of its own: a CSVLogger deletes the one
        before it. What was built is told its place, not the configuration: the `config.yaml` that a run keeps can
        then be run again with another root.
        """
        settings = self._get(self.config_init, "trainer")
        root = settings["default_root_dir"] or Path.cwd()
        if settings["logger"] is None or settings["logger"] is True:
            own = "" if self.subcommand == "fit" else str(self.subcommand)
            kwargs["logger"] = CSVLogger(root, name="", version=own)
        callbacks = settings["callbacks"]
        for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                # As Lightning resolves one that is given.
                callback.dirpath = ModelCheckpoint(dirpath=root).dirpath
        return super().instantiate_trainer(**kwargs)

    def _parse_ckpt_path(self) -> None:
        """Nothing is left to do: `parse_arguments` has read the checkpoint, as the weakest config."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Run the trainer's method; Lightning's ways to fail become ours.

        Raises:
            InputError: The checkpoint is missing, or its weights do not fit the model; the disk is full.
            KeyboardInterrupt: Stopped by hand (Lightning would exit with status 1); says how to resume.
        """
        warn_of_emulated_bfloat16(self.trainer)
        try:
            super()._run_subcommand(subcommand)
        except SystemExit as stop:
            if self.trainer.interrupted:
                raise KeyboardInterrupt(resume_hint(self.trainer)) from stop
            raise
        except FileNotFoundError as error:
            path = self.config[subcommand].get("ckpt_path")
            if path and str(path) in str(error):
                raise InputError(f"there is no checkpoint {path}; check --ckpt_path") from error
            raise
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            place = f" ({error.filename})" if error.filename else ""
            raise InputError(f"{error.strerror}{place}; {resume_hint(self.trainer)}") from error
        except RuntimeError as error:
            if "loading state_dict" not in str(error):
                raise
            path = self.config[subcommand].get("ckpt_path")
            details = "; ".join(line.strip().rstrip(".") for line in str(error).splitlines()[1:3])
            raise InputError(f"the checkpoint {path} does not fit the model: {details}") from error


def warn_of_emulated_bfloat16(trainer: Trainer) -> None:
    """Say so where bfloat16 is to be computed by a CPU that has no instructions for it.

    On one with AVX2 alone a convolution took 5 times, and a linear layer 8 times, what it takes in float32 (torch
    2.15, forward and backward).
    """
    emulated = isinstance(trainer.accelerator, CPUAccelerator) and not computes_bfloat16()
    if emulated and str(trainer.precision).startswith("bf16"):
        warnings.warn(
            f"This CPU has no instructions for bfloat16, and would take several times as long with "
            f"{trainer.precision} as with float32; give --trainer.precision 32-true.",
            InputWarning,
            stacklevel=2,
        )


def computes_bfloat16() -> bool:
    """Whether this computer's CPU has instructions that torch's kernels use for bfloat16."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def resume_hint(trainer: Trainer) -> str:
    """How to go on after a stop: the last checkpoint that a callback wrote, or the lack of one."""
    callback = trainer.checkpoint_callback
    path = getattr(callback, "last_model_path", "") or getattr(callback, "best_model_path", "")
    return f"stopped; resume with --ckpt_path {path}" if path else "stopped before the first checkpoint"


def main(argv: list[str]) -> int:
    """Run `fit`, `validate`, `test` or `predict` (the first of `argv`) with the options after it.

    Raises:
        InputError: An option or a config that cannot be used; the sentence names its key.
    """
    keep_freed_memory()
    set_dumper("yaml", write_yaml)
    try:
        TrainingCLI(argv)
    except ArgumentError as error:
        raise InputError(one_sentence(str(error))) from error
    except MisconfigurationException as error:
        raise InputError(" ".join(str(error).split())) from error
    return 0
