import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from mmret.backbones import load_backbone, resolve
from mmret.backbones.prompt import fill
from mmret.errors import InputError

NAME = "test_vit.r160_in1k"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A file with a classifier, as timm's training writes it, and the model it came from."""
    torch.manual_seed(0)
    model = timm.create_model(NAME, pretrained=False).eval()
    path = tmp_path_factory.mktemp("timm") / "weights.safetensors"
    save_file(model.state_dict(), path)
    return model, path


def test_features_are_what_the_classifier_reads(checkpoint):
    model, path = checkpoint
    backbone = load_backbone(f"timm:{NAME}/{path}")
    pixels = torch.randn(2, 3, 160, 160)
    wanted = model.forward_head(model.forward_features(pixels), pre_logits=True)
    assert backbone.encode_images(pixels).shape == (2, backbone.spec.width)
    torch.testing.assert_close(backbone.encode_images(pixels), wanted)


def test_preprocessing_equals_timms(checkpoint):
    model, path = checkpoint
    image = Image.effect_noise((200, 170), 90).convert("RGB")
    theirs = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    ours = load_backbone(f"timm:{NAME}/{path}").transform
    torch.testing.assert_close(ours(image), theirs(image), rtol=0, atol=1e-6)


def test_texts_are_refused(checkpoint):
    backbone = load_backbone(f"timm:{NAME}/{checkpoint[1]}")
    assert not backbone.has_text
    for call in (
        lambda: backbone.tokenize(["a dog"]),
        lambda: backbone.encode_text(torch.zeros(1, 4, dtype=torch.int64)),
        lambda: backbone.tokenize_prompts([fill("{word}")]),
        lambda: backbone.token_width,
        lambda: backbone.logit_scale,
    ):
        with pytest.raises(InputError, match="encodes images only"):
            call()


def test_dinov2_is_known_without_its_weights():
    spec = resolve("timm:vit_small_patch14_dinov2.lvd142m")
    assert (spec.width, spec.image_size, spec.pooling) == (384, 518, "token")
    assert (spec.preprocess, spec.licence, spec.context_length) == ("center-crop", "apache-2.0", 0)
    assert spec.revision == "timm/vit_small_patch14_dinov2.lvd142m@main"


@pytest.mark.parametrize(
    ("name", "preprocess"),
    [("resnet50.a1_in1k", "center-crop-0.95"), ("convnext_tiny.fb_in22k_ft_in1k_384", "squash")],
)
def test_crops_become_named_preprocessings(name, preprocess):
    assert resolve(f"timm:{name}").preprocess == preprocess


def test_weights_of_another_model_are_refused(checkpoint):
    with pytest.raises(InputError, match=r"not for the architecture test_resnet\.r160_in1k"):
        load_backbone(f"timm:test_resnet.r160_in1k/{checkpoint[1]}")


def test_inputs_that_are_not_square_are_refused():
    with pytest.raises(InputError, match="only square"):
        resolve("timm:vit_base_patch16_sapiens2.fb")


def test_weights_that_are_nowhere_are_missed_in_one_sentence():
    with pytest.raises(InputError, match="not in the local cache and cannot be fetched"):
        load_backbone("timm:vit_tiny_patch16_224")
