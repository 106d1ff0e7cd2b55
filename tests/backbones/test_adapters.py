from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmret.backbones import load_backbone
from mmret.backbones.adapters import (
    AdapterSettings,
    adapter_parameters,
    add_adapter,
    load_adapter,
    save_adapter,
)
from mmret.backbones.vlm_pages import VlmBackbone
from mmret.errors import InputError
from tests.backbones.tiny_pages import FAMILIES

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FAMILIES["qwen2_vl"](tmp_path_factory.mktemp("base") / "qwen")


def backbone_of(name: str) -> VlmBackbone:
    backbone = load_backbone(name)
    assert isinstance(backbone, VlmBackbone)
    return backbone


def asked(backbone: VlmBackbone) -> Tensor:
    with torch.no_grad():
        found = backbone.encode_queries(backbone.tokenize(["which page?", "a"]))
    assert isinstance(found, Tensor)
    return found


@pytest.fixture(scope="module", params=[False, True], ids=["lora", "dora"])
def adapted(
    request: pytest.FixtureRequest, base: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Tensor]:
    """A trained adapter's folder, and the vectors of the model that it was trained in."""
    backbone, settings = backbone_of(str(base)), AdapterSettings(rank=2, dora=request.param)
    before = asked(backbone)
    assert torch.allclose(
        asked(backbone.adapt(settings).eval()), before, atol=1e-6
    )  # nothing changes before training
    backbone.unfreeze()
    assert backbone.model.training
    trained = {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    with torch.no_grad():
        for parameter in adapter_parameters(backbone.model):
            parameter.add_(torch.randn_like(parameter) * 0.2)
    folder = tmp_path_factory.mktemp("adapter")
    save_adapter(backbone.model, folder)
    return folder, asked(backbone.freeze())


def test_adapters_come_back(base: Path, adapted: tuple[Path, Tensor]) -> None:
    folder, expected = adapted
    backbone = backbone_of(f"{base}?adapter={folder}")
    assert torch.allclose(asked(backbone), expected, atol=1e-5)
    assert (expected - asked(backbone_of(str(base)))).abs().max() > 1e-2
    assert backbone.spec.revision != backbone_of(str(base)).spec.revision


def test_names_of_the_model_that_generates_are_understood(
    base: Path, adapted: tuple[Path, Tensor], tmp_path: Path
) -> None:
    """An adapter of Qwen2VLForConditionalGeneration: its keys say `model.language_model.…`."""
    folder, expected = adapted
    (tmp_path / "adapter_config.json").write_bytes((folder / "adapter_config.json").read_bytes())
    state = {key.replace("model.language_model", "model.model.language_model"): value
             for key, value in load_file(folder / WEIGHTS).items()}  # fmt: skip
    save_file(state, tmp_path / WEIGHTS)
    assert torch.allclose(asked(backbone_of(f"{base}?adapter={tmp_path}")), expected, atol=1e-5)


def test_an_adapter_that_does_not_load_completely_is_an_error(
    base: Path, adapted: tuple[Path, Tensor], tmp_path: Path
) -> None:
    folder, _ = adapted
    (tmp_path / "adapter_config.json").write_bytes((folder / "adapter_config.json").read_bytes())
    state = load_file(folder / WEIGHTS)
    gone = sorted(state)[0]
    save_file({key: value for key, value in state.items() if key != gone}, tmp_path / WEIGHTS)
    with pytest.raises(InputError, match=r"lacks weights that the model needs: .*lora_\w+"):
        load_adapter(backbone_of(str(base)).model, tmp_path)
    save_file({**state, "base_model.model.elsewhere.lora_A.weight": torch.zeros(2, 2)}, tmp_path / WEIGHTS)
    with pytest.raises(InputError, match=r"no part of the model takes: .*elsewhere\.lora_A"):
        load_adapter(backbone_of(str(base)).model, tmp_path)


def test_an_adapter_lies_in_both_towers_as_dses_does(tmp_path: Path) -> None:
    """The maps that texttron/tevatron names (examples/dse/arguments.py), of Phi-3-vision's language model and CLIP."""
    backbone = backbone_of(str(FAMILIES["phi3_v"](tmp_path / "phi"))).adapt(AdapterSettings(rank=2))
    adapted = {
        name.partition(".lora_")[0] for name, p in backbone.model.named_parameters() if p.requires_grad
    }
    language, vision = ({m for m in adapted if m.startswith(tower)} for tower in ("language_model", "vision"))
    assert {m.rpartition(".")[2] for m in language} == {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}
    assert {m.rpartition(".")[2] for m in vision} == {"q_proj", "k_proj", "v_proj", "out_proj"}
    assert adapted == language | vision


def test_modules_that_are_not_there_are_an_error(base: Path) -> None:
    with pytest.raises(InputError, match="no modules that match 'nothing'"):
        add_adapter(backbone_of(str(base)).model, AdapterSettings(targets="nothing"))


def test_a_second_adapter_is_refused(base: Path, adapted: tuple[Path, Tensor]) -> None:
    """It would take the first one's place, without a word."""
    folder, expected = adapted
    backbone = backbone_of(f"{base}?adapter={folder}")
    with pytest.raises(InputError, match="has an adapter already, which a new one would displace"):
        backbone.adapt(AdapterSettings(rank=2))
    assert torch.allclose(asked(backbone), expected, atol=1e-5)


def test_both_sides_teach_an_adapter(base: Path) -> None:
    """One step on a page and a query brings them nearer, and moves nothing but the adapter."""
    backbone = backbone_of(str(base)).adapt(AdapterSettings(rank=2, dropout=0.0))
    page = torch.full((3, 16, 16), 90, dtype=torch.uint8)
    tokens = backbone.tokenize(["which page?"])

    def distance() -> Tensor:
        return (
            1 - torch.cosine_similarity(backbone.encode_images([page]), backbone.encode_text(tokens)).mean()
        )

    frozen = {n: p.clone() for n, p in backbone.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.Adam(adapter_parameters(backbone.model), lr=1e-2)
    first = distance()
    for _ in range(5):
        optimizer.zero_grad()
        distance().backward()
        optimizer.step()
    assert distance() < first
    assert all(torch.equal(p, frozen[n]) for n, p in backbone.named_parameters() if n in frozen)
