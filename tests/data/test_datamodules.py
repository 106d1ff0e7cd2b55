import json
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image

from mmret.data.datamodules import BenchmarkDataModule, CaptionedImagesDataModule, CaptionsDataModule
from mmret.data.resuming import side_by_side
from mmret.errors import InputError

BACKBONE = "miniature-clip"
WORDS = [f"caption {number}" for number in range(10)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten grey images, each named and captioned by its shade; one query of test."""
    (tmp_path / "images").mkdir()
    records = []
    for shade in range(10):
        Image.new("RGB", (80, 70), (shade * 20,) * 3).save(tmp_path / "images" / f"{shade}.png")
        split = "test" if shade > 7 else "train"
        records.append({"image": f"{shade}.png", "caption": f"shade {shade}", "split": split})
    query = {"id": "q", "reference": "0.png", "text": "brighter", "targets": ["9.png"], "split": "test"}
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (tmp_path / "queries.jsonl").write_text(json.dumps(query))
    return tmp_path


@pytest.fixture
def captions(tmp_path: Path) -> str:
    path = tmp_path / "captions.txt"
    path.write_text("\n".join(WORDS))
    return str(path)


def text_module(source: str, **settings: int) -> CaptionsDataModule:
    module = CaptionsDataModule(source, **{"batch_size": 2, "held_out": 3, **settings})
    module.setup("fit")
    return module


def epoch(module: CaptionsDataModule, number: int = 0) -> list[list[str]]:
    loader = module.train_dataloader()
    loader.sampler.set_epoch(number)  # type: ignore[attr-defined]
    return [batch["captions"] for batch in loader]  # type: ignore[call-overload]


def test_captioned_images_are_what_the_backbone_takes(folder: Path) -> None:
    module = CaptionedImagesDataModule(f"folder:{folder}", BACKBONE, batch_size=3, held_out=2)
    module.setup("fit")
    first = next(iter(module.train_dataloader()))
    assert first["pixels"].shape == (3, 3, 64, 64)
    assert first["pixels"].dtype == torch.float32
    assert all(text.startswith("shade ") for text in first["captions"])
    assert len(list(module.train_dataloader())) == 2
    assert [len(batch["captions"]) for batch in module.val_dataloader()] == [2]


def test_an_image_keeps_its_own_caption(folder: Path) -> None:
    module = CaptionedImagesDataModule(f"folder:{folder}", BACKBONE, batch_size=6, held_out=2)
    module.setup("fit")
    batch = next(iter(module.train_dataloader()))
    brightness = batch["pixels"].mean(dim=(1, 2, 3)).argsort().tolist()
    shades = [int(text.removeprefix("shade ")) for text in batch["captions"]]
    assert [shades[row] for row in brightness] == sorted(shades)


def test_another_split_of_a_folder_validates_with_one_caption_an_image(folder: Path) -> None:
    with (folder / "captions.jsonl").open("a") as file:
        file.write('{"image": "0.jpg", "captions": ["one", "two"], "split": "val"}')
    Image.new("RGB", (8, 8)).save(folder / "images" / "0.jpg")
    sizes, texts = [], []
    for split in ("test", "val"):
        module = CaptionedImagesDataModule(f"folder:{folder}", BACKBONE, held_out=5, val_split=split)
        module.setup("fit")
        sizes.append(len(module.train))
        texts += [batch["captions"] for batch in module.val_dataloader()]
    assert sizes == [8, 8]
    assert texts == [["shade 8", "shade 9"], ["one"]]
    with pytest.raises(InputError, match="only a folder has splits"):
        CaptionedImagesDataModule("miniature", BACKBONE, pairs=8, val_split="val").setup("fit")


def test_items_of_a_group_stand_side_by_side_in_a_shuffled_epoch(folder: Path) -> None:
    groups = "aabbbacc"
    records = [
        {"image": f"{shade}.png", "captions": [f"{group}1", f"{group}2"], "split": "train", "group": group}
        for shade, group in enumerate(groups)
    ]
    (folder / "captions.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    module = CaptionedImagesDataModule(f"folder:{folder}", BACKBONE, batch_size=16, held_out=0, together=3)
    module.setup("fit")
    orders = []
    for number in range(3):
        loader = module.train_dataloader()
        loader.sampler.set_epoch(number)  # type: ignore[attr-defined]
        (batch,) = loader
        orders.append(batch["captions"])
        runs = [(text, len(list(run))) for text, run in groupby(batch["captions"])]
        assert sorted(runs) == [("a1", 3), ("a2", 3), ("b1", 3), ("b2", 3), ("c1", 2), ("c2", 2)]
    assert orders[0] != orders[1] != orders[2]


def test_a_group_larger_than_what_may_stand_together_is_cut() -> None:
    assert side_by_side("aBcADbx", "abcadba", together=2) == ["a", "A", "B", "b", "c", "D", "x"]


def test_jitter_moves_training_images_on_white_and_no_others(folder: Path) -> None:
    corners = {}
    for jitter in (0.0, 0.3):
        module = CaptionedImagesDataModule(
            f"folder:{folder}", BACKBONE, batch_size=8, held_out=0, val_split="test", jitter=jitter
        )
        module.setup("fit")
        torch.manual_seed(0)
        (batch,), (val,) = module.train_dataloader(), module.val_dataloader()
        corners[jitter] = [
            (pixels.amax((1, 2, 3)) > 1.9).sum().item() for pixels in (batch["pixels"], val["pixels"])
        ]
    assert corners[0.0] == [0, 0]  # no shade is white
    assert corners[0.3][0] >= 6
    assert corners[0.3][1] == 0
    with pytest.raises(InputError, match="jitter is 2"):
        CaptionedImagesDataModule(f"folder:{folder}", BACKBONE, jitter=2.0, held_out=0).setup("fit")


def test_the_miniature_world_gives_as_many_pairs_as_asked_for() -> None:
    module = CaptionedImagesDataModule("miniature", BACKBONE, batch_size=4, pairs=8, held_out=3)
    module.setup("fit")
    assert (len(module.train), len(module.val)) == (8, 3)
    assert next(iter(module.val_dataloader()))["pixels"].shape == (3, 3, 64, 64)


def test_what_is_held_out_is_never_trained_on(captions: str) -> None:
    module = text_module(captions)
    trained = {text for batch in epoch(module) for text in batch}
    held_out = {text for batch in module.val_dataloader() for text in batch["captions"]}
    assert len(held_out) == 3
    assert not trained & held_out
    assert trained | held_out <= set(WORDS)


def test_the_order_depends_on_seed_and_epoch_alone(captions: str) -> None:
    first = epoch(text_module(captions))
    assert epoch(text_module(captions)) == first
    assert epoch(text_module(captions), number=1) != first
    assert epoch(text_module(captions, seed=1)) != first


def test_only_full_batches_train_unless_there_is_none(captions: str) -> None:
    assert [len(batch) for batch in epoch(text_module(captions))] == [2, 2, 2]
    assert [len(batch) for batch in epoch(text_module(captions, batch_size=50))] == [7]


def test_captions_come_from_a_folder_and_from_the_miniature_world(folder: Path) -> None:
    from_folder = text_module(f"folder:{folder}", held_out=1)
    assert len(from_folder.train) + len(from_folder.val) == 8
    drawn = text_module("miniature", captions=5)
    assert (len(drawn.train), len(drawn.val)) == (5, 3)


def test_a_benchmark_has_two_loaders_in_order(folder: Path) -> None:
    module = BenchmarkDataModule(f"folder:{folder}", backbone=BACKBONE, batch_size=2)
    module.setup("test")
    images, queries = module.test_dataloader()
    batches = list(images)
    assert [batch["ids"] for batch in batches] == [["8.png", "9.png"], ["0.png"]]
    assert batches[0]["pixels"].shape == (2, 3, 64, 64)
    assert [batch["indices"].tolist() for batch in queries] == [[0]]


class WithABackbone(LightningModule):
    """Has a hyper-parameter `backbone`, as the methods do; notes the batches it meets."""

    def __init__(self, backbone: str) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[Any] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        self.seen.append(batch["captions"])
        return self.weight.sum()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Validation data must be there, and is not looked at."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Save(ModelCheckpoint):
    """Keeps a checkpoint of every step."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "{step}", save_top_k=-1, every_n_train_steps=1)


def fit(
    data: LightningDataModule, epochs: int, *callbacks: Callback, resume: Path | None = None
) -> list[Any]:
    """Train; the captions of each batch."""
    model = WithABackbone(BACKBONE)
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data, ckpt_path=resume)
    return model.seen


def test_the_trained_module_names_the_backbone(folder: Path) -> None:
    data = CaptionedImagesDataModule(f"folder:{folder}", batch_size=3, held_out=2)
    assert len(fit(data, 1)) == 2


def test_a_resumed_run_meets_what_the_killed_one_left(captions: str, tmp_path: Path) -> None:
    def data() -> CaptionsDataModule:
        return CaptionsDataModule(captions, batch_size=2, held_out=3)

    whole = fit(data(), 2, Save(tmp_path))
    assert len(whole) == 6
    assert whole[:3] != whole[3:]
    for step in range(1, 6):
        assert fit(data(), 2, resume=tmp_path / f"step={step}.ckpt") == whole[step:], step


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: CaptionedImagesDataModule("photos"), "source is 'photos'; captioned images come from"),
        (lambda: CaptionsDataModule("none.txt"), "neither 'miniature', 'folder:PATH' nor a file"),
        (lambda: BenchmarkDataModule("nowhere"), "nowhere"),
    ],
)
def test_unknown_sources_are_refused(make: Callable[[], LightningDataModule], sentence: str) -> None:
    module = make()
    module.hparams.backbone = BACKBONE
    with pytest.raises(InputError, match=sentence):
        module.setup("fit")


def test_too_much_held_out_and_no_backbone_are_refused(captions: str, folder: Path) -> None:
    with pytest.raises(InputError, match="held_out is 10, which leaves nothing of 10 items"):
        text_module(captions, held_out=10)
    with pytest.raises(InputError, match="CaptionedImagesDataModule knows no backbone"):
        CaptionedImagesDataModule(f"folder:{folder}").setup("fit")


@pytest.mark.multiprocess
def test_worker_processes_give_the_same_batches(folder: Path) -> None:
    def first(num_workers: int) -> dict[str, Any]:
        module = CaptionedImagesDataModule(
            f"folder:{folder}", BACKBONE, batch_size=6, held_out=2, num_workers=num_workers
        )
        module.setup("fit")
        return next(iter(module.train_dataloader()))  # type: ignore[no-any-return]

    here, there = first(0), first(1)
    assert here["captions"] == there["captions"]
    assert torch.equal(here["pixels"], there["pixels"])
