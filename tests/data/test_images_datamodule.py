from pathlib import Path

import pytest
import torch
from PIL import Image

from mmret.data.image_sources import open_training_images
from mmret.data.images_datamodule import ImagesDataModule
from mmret.errors import InputError
from tests.methods.toy_data import write_backbone, write_world


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_backbone(tmp_path_factory.mktemp("tiny") / "clip"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("tiny") / "world")


def test_a_folder_gives_its_train_images_and_a_bare_one_all(world: Path) -> None:
    assert list(open_training_images(f"folder:{world}").ids) == ["red.png", "green.png", "blue.png"]
    assert len(open_training_images(f"folder:{world}/images").ids) == 6
    assert open_training_images(f"folder:{world}/images", 2).ids == ["black.png", "blue.png"]


def test_the_miniature_worlds_images_are_the_same_every_time() -> None:
    first, more = (open_training_images("miniature", count) for count in (2, 5))
    assert list(more.ids)[:2] == list(first.ids) == ["train-000000", "train-000001"]
    assert first.read("train-000001").tobytes() == more.read("train-000001").tobytes()
    assert first.read("train-000000").tobytes() != first.read("train-000001").tobytes()


@pytest.mark.parametrize(
    ("source", "count", "reason"),
    [
        ("miniature", None, "say how many"),
        ("cc3m", None, "'miniature' or 'folder:PATH'"),
        ("folder:WORLD", 9, "has 3"),
    ],
)
def test_sources_that_cannot_be_used_are_told(
    world: Path, source: str, count: int | None, reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        open_training_images(source.replace("WORLD", str(world)), count)


def test_stored_features_are_the_backbones_and_are_made_once(
    backbone: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"backbone": backbone, "batch_size": 2, "held_out": 1}
    live = ImagesDataModule(f"folder:{world}", **options)
    live.setup()
    stored = ImagesDataModule(f"folder:{world}", store=str(tmp_path), device="cpu", **options)
    stored.prepare_data()
    monkeypatch.setattr(
        "mmret.backbones.openclip.OpenClipBackbone.encode_images", lambda *_: pytest.fail("again")
    )
    stored.prepare_data()
    stored.setup()
    monkeypatch.undo()
    pixels, features = (next(iter(module.train_dataloader())) for module in (live, stored))
    assert pixels["ids"] == features["ids"]
    torch.testing.assert_close(stored._load_backbone().encode_images(pixels["pixels"]), features["features"])
    assert [len(module.val) for module in (live, stored)] == [1, 1]


def test_crops_are_random_for_training_alone(backbone: str, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        Image.effect_noise((40, 40), 90).convert("RGB").save(tmp_path / f"{name}.png")
    data = ImagesDataModule(f"folder:{tmp_path}", backbone, held_out=1, crop=0.5)
    data.setup()
    assert not torch.equal(data.train[0][1], data.train[0][1])
    assert torch.equal(data.val[0][1], data.val[0][1])
    assert data.train[0][1].shape == data.val[0][1].shape == (3, 32, 32)


def test_a_store_with_crops_is_refused() -> None:
    with pytest.raises(InputError, match="nothing can be cropped at random"):
        ImagesDataModule(store="stores", crop=0.9)
