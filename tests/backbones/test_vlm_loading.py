"""Files that are damaged, absent or hostile, and the options that a model is loaded with."""

import importlib.util
import json
import logging
import shutil
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from mmret.backbones import load_backbone
from mmret.backbones.adapters import AdapterSettings, add_adapter, save_adapter
from mmret.backbones.vlm import load_vlm
from mmret.backbones.vlm_loading import _attention
from mmret.backbones.vlm_pages import VlmBackbone
from mmret.errors import InputError
from tests.backbones import tiny_pages
from tests.backbones.tiny_pages import FAMILIES
from tests.backbones.tiny_vlm import write_vlm

Folder = Callable[[str], Path]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    root = tmp_path_factory.mktemp("written")

    def folder(kind: str) -> Path:
        return root / kind if (root / kind).exists() else {**FAMILIES, "llava": write_vlm}[kind](root / kind)

    return folder


@pytest.fixture
def copied(written: Folder, tmp_path: Path) -> Folder:
    """A folder of one's own, to be spoilt."""
    return lambda kind: Path(shutil.copytree(written(kind), tmp_path / kind))


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("kind", ["qwen2_vl", "smolvlm", "colpali", "phi3_v"])
def test_half_a_file_of_weights_is_named_as_damage(copied: Folder, kind: str) -> None:
    folder = copied(kind)
    halve(folder / "model.safetensors")
    with pytest.raises(InputError, match=rf"{kind} is damaged .*SafetensorError"):
        load_backbone(f"vlm:{folder}")


def test_half_a_model_that_answers_is_named_as_damage(copied: Folder) -> None:
    folder = copied("llava")
    halve(folder / "model.safetensors")
    with pytest.raises(InputError, match=r"llava is damaged .*SafetensorError"):
        load_vlm(str(folder))


@pytest.mark.parametrize("kind", ["qwen2_vl", "smolvlm", "phi3_v"])
def test_a_model_without_its_tokenizer_is_refused(copied: Folder, kind: str) -> None:
    """Qwen's tokenizer is built without a word where its files are absent, and would read every query as one token."""
    folder = copied(kind)
    for file in folder.glob("token*"):
        file.unlink()
    with pytest.raises(InputError, match=rf"{kind} (cannot be read as .*tokenizer|has no <\|image_pad\|>)"):
        load_backbone(f"vlm:{folder}")


@pytest.mark.parametrize("kind", ["qwen2_vl", "phi3_v"])
@pytest.mark.parametrize("attention", ["nonsense", "flash_attention_2"])
def test_an_attention_that_is_not_there_is_refused(written: Folder, kind: str, attention: str) -> None:
    if attention == "flash_attention_2" and importlib.util.find_spec("flash_attn"):
        pytest.skip("flash attention is installed")
    with pytest.raises(InputError, match=rf"{kind} cannot be read as .*(nonsense|FlashAttention2)"):
        load_backbone(f"vlm:{written(kind)}?attention={attention}")


def test_a_configuration_of_the_wrong_kind_is_refused(copied: Folder) -> None:
    folder = copied("phi3_v")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_attention_heads": "two"}))
    with pytest.raises(InputError, match=r"cannot be read as phi3-vision .*num_attention_heads"):
        load_backbone(f"vlm:{folder}")


def test_damaged_latent_attention_is_named(copied: Folder) -> None:
    folder = copied("qwen2_vl")
    (folder / "latent_attention.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match=r"latent_attention\.safetensors is damaged"):
        load_backbone(f"vlm:{folder}?pooling=latent-attention")


@pytest.fixture(scope="module")
def adapter(written: Folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    backbone, settings = load_backbone(str(written("qwen2_vl"))), AdapterSettings(rank=2)
    assert isinstance(backbone, VlmBackbone)
    add_adapter(backbone.model, settings)
    folder = tmp_path_factory.mktemp("adapters") / "lora"
    save_adapter(backbone.model, folder)
    return folder


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("", "lora is damaged .*SafetensorError"),
        ("{", "cannot be read as an adapter of this model .*Expecting property name"),
        ("[]", "lora is damaged"),
        ("{}", "holds a PeftConfig"),
        ('{"peft_type": "NOTHING"}', "lora is damaged .*NOTHING"),
        ('{"peft_type": "LORA", "target_modules": "(("}', "cannot be read as an adapter of this model"),
        ('{"peft_type": "LORA", "target_modules": ["else"]}', "an adapter of this model .*else.* not found"),
    ],
)
def test_damaged_adapters_are_refused(
    written: Folder, adapter: Path, tmp_path: Path, config: str, message: str
) -> None:
    """Half of the weights, or whole ones beside this configuration."""
    folder = Path(shutil.copytree(adapter, tmp_path / "lora"))
    if config:
        (folder / "adapter_config.json").write_text(config)
    else:
        halve(folder / "adapter_model.safetensors")
    with pytest.raises(InputError, match=message):
        load_backbone(f"{written('qwen2_vl')}?adapter={folder}")


@pytest.mark.parametrize("kind", ["phi3_v", "qwen2_vl"])
def test_loading_is_silent(
    written: Folder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = written(kind)
    monkeypatch.setattr(logging.getLogger("transformers"), "handlers", [caplog.handler])
    caplog.clear()  # of what was said while the folder was written
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_backbone(f"vlm:{folder}")
    assert caplog.records == []


def test_quantised_weights_need_their_package(written: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "bitsandbytes" else find(name, *rest)
    )
    with pytest.raises(InputError, match="need the package bitsandbytes"):
        load_backbone(f"vlm:{written('qwen2_vl')}?quantise=4bit")


@pytest.mark.parametrize(
    ("installed", "precision", "device", "expected"),
    [
        (True, "bf16", "cuda", "flash_attention_2"),
        (True, "fp16", "cuda:1", "flash_attention_2"),
        (True, "fp32", "cuda", "sdpa"),
        (True, "bf16", "cpu", "sdpa"),
        (False, "bf16", "cuda", "sdpa"),
    ],
)
def test_flash_attention_is_for_half_precision_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, installed: bool, precision: str, device: str, expected: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if installed else None)
    assert _attention(precision, device) == expected


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler is here")
def test_a_compiled_model_gives_the_same_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.utils import counters

    monkeypatch.setitem(tiny_pages.TEXT, "num_hidden_layers", 1)  # half the time
    folder = FAMILIES["paligemma"](tmp_path / "tiny")
    plain, compiled = load_backbone(f"vlm:{folder}"), load_backbone(f"vlm:{folder}?compile=true")
    counters.clear()
    with torch.no_grad():
        expected = plain.encode_text(plain.tokenize(["which page?"]))
        assert not counters["stats"]["unique_graphs"]
        found = compiled.encode_text(compiled.tokenize(["which page?"]))
    assert counters["stats"]["unique_graphs"]
    assert torch.allclose(found, expected, atol=1e-5)


def hostile(folder: Path) -> Path:
    """Let every description in a folder name code that leaves a file behind; returns that file."""
    marker = folder / "ran"
    (folder / "hostile.py").write_text(f"open({str(marker)!r}, 'w').close()\n\nclass Hostile: pass\n")
    kinds = ("Config", "Model", "ModelForImageTextToText", "ImageProcessor", "Processor")
    named: dict[str, Any] = {f"Auto{kind}": "hostile.Hostile" for kind in kinds}
    named["AutoTokenizer"] = ["hostile.Hostile", "hostile.Hostile"]
    for path in folder.glob("*config.json"):
        told = json.loads(path.read_text())
        for part in (told, told.get("image_processor", {})):
            part["auto_map"] = named
        path.write_text(json.dumps(told))
    return marker


@pytest.mark.parametrize("kind", ["qwen2_vl", "smolvlm", "colpali", "phi4_multimodal", "phi3_v", "llava"])
def test_code_in_a_models_folder_is_never_run(copied: Folder, kind: str) -> None:
    folder = copied(kind)
    marker = hostile(folder)
    if kind == "llava":
        load_vlm(str(folder))
    else:
        load_backbone(str(folder)).tokenize(["which page?"])
    assert not marker.exists()


@pytest.mark.parametrize("part", ["AutoConfig", "AutoTokenizer", "AutoImageProcessor", "AutoProcessor"])
def test_that_code_would_run_where_it_is_trusted(
    copied: Folder, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the test above would see, if anything of ours trusted it."""
    import transformers
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = copied("qwen2_vl")
    marker = hostile(folder)
    with suppress(Exception):  # it is no real part of a model
        getattr(transformers, part).from_pretrained(folder, trust_remote_code=True)
    assert marker.exists()
