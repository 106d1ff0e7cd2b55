import json
from pathlib import Path

import pytest
from PIL import Image

from mmret.backbones import resolve, vlm_files
from mmret.backbones.registry import names, transform_of
from mmret.backbones.vlm_presets import PRESETS
from mmret.backbones.vlm_specs import VlmSpec, as_loaded, own_resizing
from mmret.errors import InputError


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_described_without_weights(name: str) -> None:
    spec = resolve(name)
    assert isinstance(spec, VlmSpec) and spec.loader == "vlm" and spec.width == PRESETS[name].width
    assert spec.multi_vector == name.startswith("col")
    assert name in names()


@pytest.mark.parametrize(
    ("name", "end", "resizing"),
    [
        # The checkpoint's model card: a generation prompt, min_pixels and max_pixels of 1 and 2,560 squares.
        ("dse-qwen2-2b-mrl", "<|im_start|>assistant\n<|endoftext|>", "smart-28-1-2560"),
        # texttron/tevatron's examples/dse/qwen: none, and pages of 748 × 748.
        ("dse-qwen2-tevatron", "<|endoftext|>", "square-756"),
    ],
)
def test_dse_qwen2_is_asked_as_its_sources_say(name: str, end: str, resizing: str) -> None:
    spec = resolve(name)
    assert isinstance(spec, VlmSpec) and spec.weights == "MrLight/dse-qwen2-2b-mrl-v1"
    head = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    assert spec.query_prompt == head + "{image}Query: {text}<|im_end|>\n" + end
    assert spec.document_prompt == head + "{image}What is shown in this image?<|im_end|>\n" + end
    assert (spec.pooling, spec.padding_side, spec.preprocess) == ("last", "left", resizing)


def test_pages_of_dse_qwen2_keep_their_proportions() -> None:
    page = Image.new("RGB", (1240, 1754))  # A4 at 150 dpi
    assert transform_of(resolve("dse-qwen2-2b-mrl")).pixels(page).shape == (3, 1680, 1176)
    assert transform_of(resolve("dse-qwen2-tevatron")).pixels(page).shape == (3, 756, 756)


def test_what_decides_vectors_is_in_the_fingerprint() -> None:
    base = resolve("dse-qwen2-2b-mrl").fingerprint()
    for other in ("?width=512", "?pooling=mean", "?like=gme-qwen2-vl-2b", "?quantise=8bit"):
        assert resolve(f"dse-qwen2-2b-mrl{other}").fingerprint() != base
    assert resolve("dse-qwen2-2b-mrl", "square-980").fingerprint() != base
    for same in ("?attention=eager", "?compile=true"):
        assert resolve(f"dse-qwen2-2b-mrl{same}").fingerprint() == base


def test_a_benchmarks_protocol_may_leave_the_preprocessing_to_the_backbone() -> None:
    assert resolve("dse-qwen2-2b-mrl", "own") == resolve("dse-qwen2-2b-mrl")
    assert resolve("vit-b-16-siglip-webli", "own").preprocess == "squash"
    with pytest.raises(InputError, match="'center-crop' is no resizing for a vision-language model"):
        resolve("dse-qwen2-2b-mrl", "center-crop")


@pytest.mark.parametrize("resizing", ["square-30", "longest-56", "native", "smart-27-1-9"])
def test_pages_that_the_model_would_not_take_are_refused(resizing: str) -> None:
    with pytest.raises(
        InputError, match=f"sides are multiples of 28 pixels, which '{resizing}' does not give"
    ):
        resolve("dse-qwen2-2b-mrl", resizing)
    with pytest.raises(InputError, match=f"multiples of 336 pixels, which '{resizing}'"):
        resolve("dse-phi3", resizing)
    assert resolve("colpali-v1.3", resizing).preprocess == resizing  # its processor resizes whatever comes


@pytest.mark.parametrize("resizing", ["square-672", "smart-336-1-4", "crops-2x3", "hd-16"])
def test_resizings_to_whole_squares_are_taken(resizing: str) -> None:
    for name in ("dse-qwen2-2b-mrl", "dse-phi3"):
        assert resolve(name, resizing).preprocess == resizing


def test_a_likeness_counts_squares_of_the_models_own() -> None:
    assert resolve("qwen3-vl-embedding-2b?like=dse-qwen2-2b-mrl").preprocess == "smart-32-1-2560"
    assert resolve("colpali-v1.3?like=dse-qwen2-2b-mrl").preprocess == "smart-28-1-2560"
    with pytest.raises(InputError, match="multiples of 32 pixels, which 'square-756'"):
        resolve("qwen3-vl-embedding-2b?like=dse-qwen2-tevatron")


def test_a_hubs_revision_is_the_commit_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = resolve("dse-qwen2-2b-mrl")
    assert isinstance(spec, VlmSpec) and spec.revision == "MrLight/dse-qwen2-2b-mrl-v1@main"
    monkeypatch.setattr(
        vlm_files, "try_to_load_from_cache", lambda *_: "/cache/snapshots/0123abc/config.json"
    )
    assert as_loaded(spec).revision == resolve(spec.name).revision == "MrLight/dse-qwen2-2b-mrl-v1@0123abc"
    pinned = resolve("gme-qwen2-vl-2b")
    assert isinstance(pinned, VlmSpec) and as_loaded(pinned) == pinned


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dse-qwen2-2b-mrl?width=4096", "vectors of 1536 numbers"),
        ("dse-qwen2-2b-mrl?width=x", "a width lies between"),
        ("dse-qwen2-2b-mrl?width=²", "a width lies between"),
        ("dse-qwen2-2b-mrl?compile=yes", "compile=yes: write true or false"),
        ("dse-qwen2-2b-mrl?with=4", "has the option 'with=4'"),
        ("dse-qwen2-2b-mrl?pooling=max", "no pooling 'max'"),
        ("dse-qwen2-2b-mrl?like=dse-qwen", "no preset 'dse-qwen'.*dse-qwen2-"),
        ("dse-qwen2-2b-mrl?quantise=2bit", "8bit and 4bit"),
        ("dse-qwen2-2b-mrl?adapter=nowhere", "holds no adapter of peft"),
        ("vlm:nowhere", "nowhere does not exist"),
        ("vlm:owner/nothing", "neither a folder nor in the hub's local cache"),
    ],
)
def test_wrong_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(name)


def test_other_models_and_recipes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InputError, match="a model of type 'bert'"):
        resolve(str(tmp_path))
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "idefics3", "text_config": {"hidden_size": 8}})
    )
    with pytest.raises(InputError, match="holds no weights"):
        resolve(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"not read here")
    assert resolve(str(tmp_path)).width == 8
    for recipe, message in (
        ({"query": "no place"}, "a query's with {text}"),
        ({"temperature": "1"}, "nothing else"),
    ):
        (tmp_path / "mmret_encoder.json").write_text(json.dumps(recipe))
        with pytest.raises(InputError, match=message):
            resolve(str(tmp_path))


def test_resizing_takes_a_checkpoints_own_numbers() -> None:
    qwen = {"patch_size": 14, "merge_size": 2, "min_pixels": 3136, "max_pixels": 1003520}
    assert own_resizing("smart-28-4-1280", qwen) == "smart-28-4-1280"
    newer = {"patch_size": 16, "merge_size": 2, "size": {"shortest_edge": 65536, "longest_edge": 16777216}}
    assert own_resizing("smart-32-4-1280", newer) == "smart-32-64-16384"
    assert own_resizing("square-448", {"size": {"height": 224, "width": 224}}) == "square-224"
    assert own_resizing("longest-1456", {"size": {"longest_edge": 2048}}) == "longest-2048"
    assert own_resizing("native", {}) == "native"
