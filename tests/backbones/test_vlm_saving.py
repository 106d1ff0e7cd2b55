from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mmret.backbones import load_backbone
from mmret.backbones.adapters import AdapterSettings
from mmret.backbones.vlm_pages import VlmBackbone
from mmret.backbones.vlm_saving import save_page_encoder
from mmret.errors import InputError
from tests.backbones.tiny_pages import FAMILIES


def vectors(backbone: VlmBackbone) -> Tensor:
    page = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 20, 3), dtype=np.uint8))
    with torch.no_grad():
        asked = backbone.encode_text(backbone.tokenize(["which page?"]))
        return torch.cat([asked, backbone.encode_images([backbone.transform.pixels(page)])])


@pytest.mark.parametrize(
    ("kind", "options"), [("qwen3_vl", "?pooling=mean"), ("phi3_v", ""), ("smolvlm", "")]
)
def test_a_trained_encoder_comes_back_with_its_recipe(tmp_path: Path, kind: str, options: str) -> None:
    backbone = load_backbone(f"vlm:{FAMILIES[kind](tmp_path / 'base')}{options}")
    assert isinstance(backbone, VlmBackbone)
    with torch.no_grad():
        for parameter in backbone.unfreeze().parameters():
            parameter.add_(0.01)
    expected = vectors(backbone.freeze())
    save_page_encoder(backbone, tmp_path / "trained")
    again = load_backbone(str(tmp_path / "trained"))
    assert isinstance(again, VlmBackbone)
    assert torch.allclose(vectors(again), expected, atol=1e-6)
    told = ("pooling", "document_prompt", "query_prompt", "preprocess", "padding_side")
    assert [getattr(again.spec, name) for name in told] == [getattr(backbone.spec, name) for name in told]
    assert again.spec.revision != backbone.spec.revision


def test_an_adapter_is_saved_by_itself(tmp_path: Path) -> None:
    backbone = load_backbone(str(FAMILIES["qwen2_vl"](tmp_path / "base")))
    assert isinstance(backbone, VlmBackbone)
    with pytest.raises(InputError, match="save its adapter"):
        save_page_encoder(backbone.adapt(AdapterSettings(rank=2)), tmp_path / "trained")
    assert not (tmp_path / "trained").exists()
