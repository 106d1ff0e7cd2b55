import json

import open_clip
import pytest
import torch
from PIL import Image

from mmret.backbones import load_backbone
from mmret.backbones.pretraining import WEIGHTS, save_backbone, trainable_backbone
from mmret.errors import InputError
from tests.full_disk import full_after

KEPT = ("loader", "pooling", "preprocess", "width")


@pytest.fixture
def backbone(model_folder):
    return trainable_backbone(str(model_folder("clip")))


def changed(backbone):
    with torch.no_grad():
        backbone.learnt_scale.add_(0.5)
    return backbone


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 0), (torch.float16, 1e-2)])
def test_a_saved_backbone_loads_with_its_weights_and_tokenizer(backbone, tmp_path, dtype, tolerance):
    save_backbone(changed(backbone), tmp_path / "new" / "saved", dtype)
    loaded = load_backbone(str(tmp_path / "new" / "saved"))
    tokens = loaded.tokenize(["a red ring"])
    assert torch.equal(tokens, backbone.tokenize(["a red ring"]))
    with torch.no_grad():
        torch.testing.assert_close(
            loaded.encode_text(tokens), backbone.encode_text(tokens), atol=tolerance, rtol=tolerance
        )
    assert loaded.learnt_scale.item() == pytest.approx(backbone.learnt_scale.item(), rel=1e-3)
    assert loaded.spec.preprocess == backbone.spec.preprocess


@pytest.mark.parametrize(
    "name", ["squash", "center-crop-0.875", "target-pad-1.25", "crops-2x1", "crops-2x1-each"]
)
def test_a_saved_backbone_keeps_its_preprocessing(model_folder, tmp_path, name):
    backbone = trainable_backbone(str(model_folder("clip")), preprocess=name).freeze()
    save_backbone(backbone, tmp_path, torch.float32)
    loaded, pixels = load_backbone(str(tmp_path)), backbone.transform.pixels(Image.effect_noise((50, 30), 90))
    assert loaded.transform == backbone.transform
    found, expected = (each.encode_documents([pixels]) for each in (loaded, backbone))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    for own in (None, "own"):
        assert trainable_backbone(str(tmp_path), True, own).transform == backbone.transform
    plain = load_backbone(str(tmp_path), preprocess="letterbox").spec
    was = load_backbone(str(model_folder("clip")), preprocess="letterbox").spec
    assert [getattr(plain, key) for key in KEPT] == [getattr(was, key) for key in KEPT]
    open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")  # which passes over what is ours


def test_a_page_encoder_leaves_what_came_with_the_shipped_one_behind(tmp_path):
    shipped = trainable_backbone("miniature-pages")
    save_backbone(shipped, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {
        "open_clip_config.json", "open_clip_model.safetensors", "bpe_vocabulary.txt.gz"
    }  # fmt: skip
    words = ["which page has an owl?"]
    assert torch.equal(load_backbone(str(tmp_path)).tokenize(words), shipped.tokenize(words))


def test_a_full_disk_keeps_the_former_weights(backbone, tmp_path):
    save_backbone(backbone, tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    small = 1 + max(len(content) for name, content in before.items() if name != WEIGHTS)
    with full_after(small), pytest.raises(InputError, match=f"Cannot write .*{WEIGHTS}"):
        save_backbone(changed(backbone), tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_from_scratch_needs_a_description_and_no_weights(model_folder, tmp_path):
    description = json.loads((model_folder("clip") / "open_clip_config.json").read_text())
    (tmp_path / "open_clip_config.json").write_text(json.dumps(description))
    torch.manual_seed(1)
    one, other = (trainable_backbone(str(tmp_path), from_scratch=True) for _ in range(2))
    assert one.training
    assert all(weight.requires_grad for weight in one.parameters())
    assert not torch.equal(*(each.model.visual.proj for each in (one, other)))
