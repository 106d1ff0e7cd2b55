"""DSE on two devices: the step of one with the joint batch, whole weights and sharded ones."""

import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy
from safetensors.torch import load_file
from torch import Tensor

from mmret.backbones import load_backbone
from mmret.errors import InputError
from mmret.methods import DocumentScreenshotEmbedding
from tests.methods.toy_dse import ADAM, LORA, SGD, made, shake_adapter, trainer
from tests.methods.toy_pages import ToyPages


def one_step(
    name: str, out: Path, devices: int, hard: int, **options: Any
) -> tuple[dict[str, Tensor], float]:
    torch.manual_seed(0)
    module = DocumentScreenshotEmbedding(name, SGD, temperature=0.2, **options)
    module.configure_model()  # here, so that the spawned processes hand their weights back to it
    shake_adapter(module)
    data = ToyPages(name, batch_size=8 // devices, hard=hard, also=[3])
    run = trainer(
        out, max_steps=1, limit_val_batches=0, devices=devices,
        strategy="ddp_spawn_find_unused_parameters_true" if devices > 1 else "auto",
    )  # fmt: skip
    run.fit(module, datamodule=data)
    return module.state_dict(), run.callback_metrics["train/loss"].item()


@pytest.mark.multiprocess
@pytest.mark.parametrize(
    ("folder", "tail", "hard", "options"),
    [
        ("backbone_folder", "", 1, {"symmetric": True, "positive_threshold": 0.9}),
        ("backbone_folder", "", 0, {"chunk_size": 3}),
        ("qwen", "?pooling=tokens", 1, {"adapter": {**LORA, "dropout": 0.0}, "chunk_size": 3}),
    ],
)
def test_two_devices_take_the_step_of_one_with_the_whole_batch(
    request: pytest.FixtureRequest, tmp_path: Path, folder: str, tail: str, hard: int, options: dict[str, Any]
) -> None:
    """Pages of both devices are negatives, less those known to answer: the step is the undivided batch's."""
    name = f"{request.getfixturevalue(folder)}{tail}"
    alone, loss_alone = one_step(name, tmp_path / "alone", 1, hard, **options)
    together, loss_together = one_step(name, tmp_path / "together", 2, hard, **options)
    assert loss_together == pytest.approx(loss_alone, rel=1e-5)
    before = made(name, **options).state_dict()
    assert sum(not torch.equal(value, before[key]) for key, value in alone.items()) > 8
    for key, value in alone.items():
        torch.testing.assert_close(together[key], value, rtol=1e-4, atol=1e-6)


def join_two(rank: int, port: int) -> None:
    """This process as one of two, which `sharded` trainers then find."""
    os.environ |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def sharded(out: Path, **options: Any) -> Trainer:
    strategy = ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1)
    return trainer(out, devices=2, strategy=strategy, **options)


def in_two_processes(work: Callable[..., None], *arguments: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, (port, *arguments), nprocs=2)


CHUNKS: dict[str, Any] = {"adapter": {**LORA, "dropout": 0.0}, "chunk_size": 3, "temperature": 0.2}
#: Small enough for a second step to be the same one: at half a unit rounding grows to 1e-4 in some random models.
GENTLY = partial(torch.optim.SGD, lr=0.01)


def plain_ddp_steps(rank: int, port: int, name: str, out: Path) -> None:
    join_two(rank, port)
    torch.manual_seed(0)
    module = DocumentScreenshotEmbedding(name, GENTLY, **CHUNKS)
    trainer(out, max_steps=2, devices=2, strategy="ddp").fit(
        module, datamodule=ToyPages(name, batch_size=4, hard=1)
    )


@pytest.mark.multiprocess
def test_chunks_go_with_plain_ddp_although_weights_are_not_used(phi3: str, tmp_path: Path) -> None:
    """As the configurations have it: the last layer of Phi-3-vision's vision model does nothing."""
    torch.manual_seed(0)
    module = DocumentScreenshotEmbedding(phi3, GENTLY, **CHUNKS)
    trainer(tmp_path / "alone", max_steps=2).fit(module, datamodule=ToyPages(phi3, batch_size=8, hard=1))
    in_two_processes(plain_ddp_steps, phi3, tmp_path / "together")
    alone, together = (
        load_file(tmp_path / run / "adapter" / "adapter_model.safetensors") for run in ("alone", "together")
    )
    assert not alone["base_model.model.vision.encoder.layers.2.self_attn.q_proj.lora_B.weight"].any()
    for key, value in alone.items():
        torch.testing.assert_close(together[key], value, rtol=1e-3, atol=1e-5)


def sharded_step(rank: int, port: int, name: str, out: Path, options: dict[str, Any]) -> None:
    join_two(rank, port)
    torch.manual_seed(0)
    module = DocumentScreenshotEmbedding(name, SGD, temperature=0.2, **options)
    sharded(out, max_steps=1).fit(module, datamodule=ToyPages(name, batch_size=4, hard=1))


@pytest.mark.multiprocess
@pytest.mark.parametrize("options", [{}, {"chunk_size": 3, "checkpoint_gradients": True}])
def test_sharded_weights_take_the_plain_step_and_are_written_whole(
    qwen: str, tmp_path: Path, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    module = DocumentScreenshotEmbedding(qwen, SGD, temperature=0.2)
    run = trainer(tmp_path / "alone", max_steps=1)
    run.fit(module, datamodule=ToyPages(qwen, batch_size=8, hard=1))
    in_two_processes(sharded_step, qwen, tmp_path / "sharded", options)
    found = load_backbone(str(tmp_path / "sharded" / "backbone")).state_dict()
    before = load_backbone(qwen).state_dict()
    assert any(not torch.equal(value, before[key]) for key, value in found.items())
    for key, value in module.model.state_dict().items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-6)


def by_tensors(rank: int, port: int, name: str, out: Path) -> None:
    join_two(rank, port)
    run = trainer(out, devices=2, strategy=ModelParallelStrategy())
    with pytest.raises(
        InputError, match=r"ModelParallelStrategy, as it is set, .* `tensor_parallel_size: 1`"
    ):
        run.fit(DocumentScreenshotEmbedding(name, SGD), datamodule=ToyPages(name))


@pytest.mark.multiprocess
def test_tensor_parallelism_which_lightning_prefers_is_refused(backbone_folder: Path, tmp_path: Path) -> None:
    in_two_processes(by_tensors, str(backbone_folder), tmp_path)


def whole_and_resumed(rank: int, port: int, name: str, out: Path) -> None:
    join_two(rank, port)
    for run, checkpoint in (("whole", None), ("resumed", out / "whole" / "step=1.ckpt")):
        torch.manual_seed(0)
        options = {"adapter": LORA, "frozen_precision": "bf16", "chunk_size": 2}
        module = DocumentScreenshotEmbedding(name, ADAM, **options)
        saving = ModelCheckpoint(out / run, every_n_train_steps=1, save_top_k=-1, filename="{step}")
        fit = sharded(out / run, max_steps=2, enable_checkpointing=True, callbacks=[saving])
        fit.fit(module, datamodule=ToyPages(name, batch_size=2), ckpt_path=checkpoint)


@pytest.mark.multiprocess
def test_a_sharded_training_of_an_adapter_resumes_exactly(qwen: str, tmp_path: Path) -> None:
    in_two_processes(whole_and_resumed, qwen, tmp_path)
    whole, resumed = (
        load_file(tmp_path / run / "adapter" / "adapter_model.safetensors") for run in ("whole", "resumed")
    )
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(resumed[key], value) for key, value in whole.items())
    assert any(value.any() for key, value in whole.items() if "lora_B" in key)
