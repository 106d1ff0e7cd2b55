from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmret.backbones import load_backbone
from mmret.backbones.prompt import fill
from mmret.backbones.text_tower import (
    load_text_encoder,
    own_text_tower,
    read_text_encoder,
    save_text_encoder,
    trainable_text_tower,
)
from mmret.errors import InputError
from tests.backbones.tiny_models import CONFIGS

Folder = Callable[[str], Path]
PROMPTS = [fill("a photo of {word} that {text}", "is $ red"), fill("a photo of {word}")]


def features(backbone, words):
    return backbone.encode_prompts(backbone.tokenize_prompts(PROMPTS), words)


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_tower_is_copied_tuned_stored_and_read(kind: str, model_folder: Folder, tmp_path: Path) -> None:
    backbone = load_backbone(str(model_folder(kind)))
    words = torch.randn(2, backbone.token_width)
    before, pixels = features(backbone, words), torch.randn(1, 3, 32, 32)
    images = backbone.encode_images(pixels)
    tower = trainable_text_tower(backbone)
    torch.testing.assert_close(features(tower.eval(), words), before)
    optimizer = torch.optim.SGD([p for p in tower.parameters() if p.requires_grad], lr=0.1)
    features(tower, words).square().sum().backward()
    # Devices wait for the gradient of each parameter that learns: none may be idle.
    assert [name for name, p in tower.named_parameters() if p.requires_grad and p.grad is None] == []
    optimizer.step()
    tuned = features(tower, words).detach()
    assert not torch.allclose(tuned, before)
    assert torch.equal(features(backbone, words), before)
    assert torch.equal(backbone.encode_images(pixels), images)
    save_text_encoder(tower, tmp_path / "text.safetensors", {"method": "test"})
    read = load_text_encoder(backbone, tmp_path / "text.safetensors")
    torch.testing.assert_close(features(read, words), tuned)
    assert read.spec == backbone.spec and not any(p.requires_grad for p in read.parameters())
    assert read_text_encoder(tmp_path / "text.safetensors")[2] == {"method": "test"}


@pytest.mark.parametrize("kind", ["clip", "custom-text-linear", "coca", "xlm-roberta", "mt5"])
def test_checkpointed_gradients_are_the_same(kind: str, model_folder: Folder) -> None:
    backbone = load_backbone(str(model_folder(kind)))
    words, found = torch.randn(2, backbone.token_width), []
    for checkpointed in (False, True):
        tower = trainable_text_tower(backbone, checkpointed)
        torch.manual_seed(1)  # of the dropout
        features(tower, words).square().sum().backward()
        found.append([p.grad for p in tower.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1]) > 5
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_a_file_of_another_backbone_is_refused(model_folder: Folder, tmp_path: Path) -> None:
    backbone = load_backbone(str(model_folder("clip")))
    path, tower = tmp_path / "text.safetensors", own_text_tower(backbone)
    save_text_encoder(tower, path, {})
    other = load_backbone(str(model_folder("clip-quickgelu")))
    other.spec = replace(other.spec, revision="sha256:other")
    with pytest.raises(InputError, match="was tuned from"):
        load_text_encoder(other, path)
    for name, content in (("absent", None), ("wrong", b"x" * 99)):
        if content:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=r"no (text encoder at|tuned text encoder)|holds no"):
            read_text_encoder(tmp_path / name)


def test_image_encoders_have_no_text_tower() -> None:
    class ImagesOnly:
        class spec:  # noqa: N801
            name = "timm:resnet18"

    with pytest.raises(InputError, match="no text tower to copy"):
        own_text_tower(ImagesOnly())
