"""Random numbers of a training step that depend on the step alone, so that a resumed training draws the same."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch import LightningModule

from mmret.methods.joint_batch import hashed


@contextmanager
def random_state_of(module: LightningModule, batch: int) -> Iterator[None]:
    """Within: torch draws (dropout) by the run's seed, epoch, batch and device, whatever was drawn before.

    A checkpoint keeps no random state, and what one process's would be is no other's. Afterwards the state is what it
    was.
    """
    key = f"{torch.initial_seed()} {module.current_epoch} {batch} {module.global_rank}"
    with torch.random.fork_rng([module.device] if module.device.type == "cuda" else []):
        torch.manual_seed(int(hashed([key])))
        yield
