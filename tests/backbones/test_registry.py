import dataclasses
import json

import open_clip
import pytest
import torch

from mmret.backbones import load_backbone, resolve
from mmret.backbones.openclip_names import catalogue, find, matching
from mmret.backbones.registry import MINIATURES, names, pick_device
from mmret.backbones.vlm_presets import PRESETS
from mmret.errors import InputError


def test_every_pretrained_tag_of_open_clip_has_a_name_that_leads_back_to_it():
    for architecture, tag in open_clip.list_pretrained():
        explicit = resolve(f"open_clip:{architecture}/{tag}")
        assert resolve(explicit.name) == explicit
        assert (explicit.architecture, explicit.weights) == matching(architecture, tag)
        assert explicit.width == open_clip.get_model_config(architecture)["embed_dim"]


def test_short_names_are_one_to_one():
    pairs = {matching(architecture, tag) for architecture, tag in open_clip.list_pretrained()}
    assert len(catalogue()) == len(pairs)
    assert set(catalogue().values()) == pairs


@pytest.mark.parametrize(
    ("name", "architecture", "weights"),
    [
        ("clip-vit-b-32", "ViT-B-32-quickgelu", "openai"),
        ("clip-vit-l-14", "ViT-L-14-quickgelu", "openai"),
        ("vit-b-32-laion2b-s34b-b79k", "ViT-B-32", "laion2b_s34b_b79k"),
        ("clip-ViT-H-14-laion2b_s32b_b79k", "ViT-H-14", "laion2b_s32b_b79k"),
        ("vit-bigg-14-laion2b-s39b-b160k", "ViT-bigG-14", "laion2b_s39b_b160k"),
        ("vit-l-14-dfn2b", "ViT-L-14-quickgelu", "dfn2b"),
        ("vit-l-14-dfn2b-s39b", "ViT-L-14", "dfn2b_s39b"),
        ("vit-b-16-siglip", "ViT-B-16-SigLIP", "webli"),
        ("vit-so400m-14-siglip2-378", "ViT-SO400M-14-SigLIP2-378", "webli"),
        ("eva02-l-14-336", "EVA02-L-14-336", "merged2b_s6b_b61k"),
        ("mobileclip2-s0", "MobileCLIP2-S0", "dfndr2b"),
        ("pe-core-l-14-336", "PE-Core-L-14-336", "meta"),
    ],
)
def test_names_follow_the_rule(name, architecture, weights):
    spec = resolve(name)
    assert (spec.architecture, spec.weights) == (architecture, weights)


def test_the_activation_follows_the_weights():
    for pair in catalogue().values():
        trained_with = bool(open_clip.get_pretrained_cfg(*pair).get("quick_gelu"))
        built_with = bool(open_clip.get_model_config(pair.architecture).get("quick_gelu"))
        # The one pair of open_clip's that disagrees with itself, and has no twin.
        assert trained_with == built_with or pair.architecture == "roberta-ViT-B-32"


def test_a_spec_is_read_off_the_configuration():
    spec = resolve("vit-b-16-siglip2")
    assert (spec.width, spec.pooling, spec.context_length, spec.image_size) == (768, "last", 64, 224)
    assert (spec.preprocess, spec.mean, spec.std) == ("squash", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert spec.licence == "Apache-2.0"
    assert resolve("coca-vit-b-32-laion2b-s13b-b90k").pooling == "cls"
    assert resolve("nllb-clip-base").pooling == "cls_pooler"
    assert resolve("mobileclip-s1").interpolation == "bilinear"


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("clip-vit-b-32", "MIT"),
        ("vit-h-14-laion2b-s32b-b79k", "MIT"),
        ("vit-b-32-metaclip-400m", "CC-BY-NC-4.0"),
        ("vit-h-14-clipa-336-laion2b", "see source"),
        ("mobileclip-s1", "see source"),
    ],
)
def test_licences(name, licence):
    assert resolve(name).licence == licence


def test_preprocessing_can_be_chosen_and_changes_the_fingerprint():
    plain, padded = resolve("clip-vit-l-14"), resolve("clip-vit-l-14", "target-pad-1.25")
    assert dataclasses.replace(padded, preprocess="center-crop") == plain
    assert plain.fingerprint("fp32") != padded.fingerprint("fp32")
    assert plain.fingerprint("fp32") != plain.fingerprint("bf16")
    with pytest.raises(InputError, match="unknown preprocessing"):
        resolve("clip-vit-l-14", "padded")


def test_a_spec_is_frozen_and_its_fingerprint_is_text():
    spec = resolve("clip-vit-b-32")
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.width = 3
    fingerprint = spec.fingerprint("fp32")
    assert json.loads(json.dumps(fingerprint)) == fingerprint
    assert fingerprint["revision"] == "sha256:40d365715913c9da98579312b702a82c"


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("clip-vit-b32", "clip-vit-b-32"),
        ("vit-b-32", "vit-b-32-laion2b"),
        ("siglip2", "vit-b-16-siglip2-webli"),
        ("timm:dinov2", "dinov2.lvd142m"),
        ("timm:resnet51", "resnet50"),
    ],
)
def test_unknown_names_answer_with_the_nearest(name, suggestion):
    with pytest.raises(InputError, match=f"the nearest names are .*{suggestion}"):
        resolve(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no/such/folder", "does not exist"),
        ("open_clip:ViT-B-32/nonsense", "its tags are: openai, "),
        ("open_clip:ViT-B-31/openai", "no architecture"),
        ("###", "unknown backbone '###'; "),
    ],
)
def test_other_wrong_names(name, message):
    with pytest.raises(InputError, match=message):
        resolve(name)


def test_names_lists_the_miniature_and_the_catalogue():
    assert {*MINIATURES, "clip-vit-l-14", "dse-qwen2-2b-mrl"} <= set(names())
    assert all(find(name) for name in names() if name not in (*MINIATURES, *PRESETS))


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (pick_device("cpu"), pick_device("auto")) == ("cpu", "cpu")
    with pytest.raises(InputError, match="no GPU"):
        pick_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert (pick_device("auto"), pick_device("cuda:1")) == ("cuda", "cuda:1")
    for wrong in ("cuda:2", "gpu", "cuda:x"):
        with pytest.raises(InputError, match="device"):
            pick_device(wrong)


def test_an_unknown_precision_is_refused_before_anything_is_loaded():
    with pytest.raises(InputError, match="fp32, bf16, fp16"):
        load_backbone("clip-vit-b-32", precision="int8")


def test_weights_that_are_nowhere_are_missed_in_one_sentence():
    with pytest.raises(InputError, match="not in the local cache and cannot be fetched"):
        load_backbone("pe-core-t-16-384")
