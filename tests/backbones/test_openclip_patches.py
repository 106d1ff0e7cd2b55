from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from timm.layers import RmsNorm, SimpleNorm
from torch import Tensor, nn

from mmret.backbones import load_backbone
from mmret.backbones.base import Backbone, PatchFeatures
from mmret.backbones.openclip_patches import attention_shares, held_norm
from mmret.errors import InputError
from tests.backbones.tiny_models import VISION, write_model

VIT = {**VISION, "layers": 2, "patch_size": 8}
TIMM = {"image_size": 160, "timm_pool": "avg", "timm_proj": "linear"}

EXACT: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "vit-avg": ({**VIT, "pool_type": "avg"}, (4, 4)),
    "vit-avg-norm-behind": ({**VIT, "pool_type": "avg", "final_ln_after_pool": True}, (4, 4)),
    "modified-resnet": ({"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64}, (2, 2)),
    "convnext": ({**TIMM, "timm_model_name": "test_convnext"}, (5, 5)),
    # Its norms scale and do not centre.
    "convnext-rms": ({**TIMM, "image_size": 128, "timm_model_name": "convnext_zepto_rms"}, (4, 4)),
    "starnet": ({**TIMM, "image_size": 128, "timm_model_name": "starnet_s150"}, (4, 4)),
    # The architecture of `miniature-pages`.
    "page-resnet": ({**TIMM, "image_size": 64, "timm_model_name": "page_resnet"}, (8, 8)),
    "maxvit": ({**TIMM, "timm_model_name": "test_maxvit"}, (5, 5)),
    "byobnet": ({**TIMM, "timm_model_name": "test_byobnet"}, (5, 5)),
    "resnet": ({**TIMM, "timm_model_name": "test_resnet"}, (5, 5)),
    "timm-vit-avg": ({**TIMM, "timm_model_name": "test_vit2"}, (10, 10)),
}
APPROXIMATE: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "vit-token": ({**VIT, "pool_type": "tok"}, (4, 4)),
    "convnext-mlp": ({**TIMM, "timm_model_name": "test_convnext", "timm_proj": "mlp"}, (5, 5)),
    "timm-vit-token": ({**TIMM, "timm_model_name": "test_vit", "timm_pool": ""}, (10, 10)),
    "timm-vit-map": (
        {**TIMM, "timm_model_name": "test_vit3", "timm_pool": ""},
        (10, 10),
    ),
}


def tower(vision: dict[str, Any], folder: Path) -> Backbone:
    """With weights and statistics that are neither 0 nor 1, in norms as well, so that every part of it shows."""
    backbone = load_backbone(str(write_model("clip", folder / "model", vision=vision)))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in backbone.model.visual.parameters():  # type: ignore[union-attr]
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        for norm in backbone.model.visual.modules():  # type: ignore[union-attr]
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.running_mean += 0.1 * torch.randn(norm.num_features, generator=generator)
                norm.running_var += torch.rand(norm.num_features, generator=generator)
    return backbone


def patches_of(backbone: Backbone, seed: int = 0) -> tuple[PatchFeatures, Tensor]:
    """Of an image of noise, and its features by the usual way."""
    pixels = torch.randint(
        0, 256, (3, 50, 70), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )
    page = backbone.transform.pixels(Image.fromarray(pixels.permute(1, 2, 0).numpy()))
    with torch.no_grad():
        whole = backbone.encode_documents(page[None])
        assert isinstance(whole, Tensor)
        return backbone.encode_patches(page), whole[0]


@pytest.mark.parametrize(("vision", "grid"), EXACT.values(), ids=EXACT.keys())
def test_the_mean_of_the_patches_is_the_vector(
    vision: dict[str, Any], grid: tuple[int, int], tmp_path: Path
) -> None:
    patches, whole = patches_of(tower(vision, tmp_path))
    assert patches.exact
    assert patches.vectors.shape == (*grid, 16)
    assert patches.vectors.mean(dim=(0, 1)) == pytest.approx(whole, rel=1e-4, abs=1e-5)
    query = torch.nn.functional.normalize(torch.randn(16, generator=torch.Generator().manual_seed(1)), dim=0)
    contributions = patches.vectors @ query
    assert float(contributions.mean()) == pytest.approx(float(whole @ query), abs=1e-5 * float(whole.norm()))
    assert contributions.std() > 1e-3 * whole.norm()  # patches differ


@pytest.mark.parametrize(("vision", "grid"), APPROXIMATE.values(), ids=APPROXIMATE.keys())
def test_other_towers_are_approximated_and_say_so(
    vision: dict[str, Any], grid: tuple[int, int], tmp_path: Path
) -> None:
    patches, whole = patches_of(tower(vision, tmp_path))
    assert not patches.exact
    assert patches.vectors.shape == (*grid, 16)
    assert isinstance(patches.whole, Tensor)
    assert patches.whole[0] == pytest.approx(whole)
    assert (patches.vectors.mean(dim=(0, 1)) - whole).norm() > 1e-3 * whole.norm()


def test_patches_of_a_class_token_s_tower_have_the_layers_behind_it(tmp_path: Path) -> None:
    backbone = tower(APPROXIMATE["vit-token"][0], tmp_path)
    visual: Any = backbone.model.visual  # type: ignore[union-attr]
    patches, whole = patches_of(backbone)
    seen: list[Tensor] = []
    visual.transformer.register_forward_hook(lambda _, __, out: seen.append(out))
    patches_of(backbone)
    tokens = visual.ln_post(seen[0][0]) @ visual.proj
    assert whole == pytest.approx(tokens[0], abs=1e-5)
    assert patches.vectors.flatten(0, 1) == pytest.approx(tokens[1:], abs=1e-5)


def test_a_place_that_is_changed_shows_in_its_share(tmp_path: Path) -> None:
    """The attention pooling's shares belong to their places, not only to their sum."""
    backbone = tower(EXACT["modified-resnet"][0], tmp_path)
    pool = backbone.model.visual.attnpool  # type: ignore[union-attr]
    maps = torch.randn(pool.positional_embedding.shape[1], 2, 2, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        pool.k_proj.weight.zero_()  # every place is looked at alike
        before, after = attention_shares(pool, maps), maps.clone()
        after[:, 1, 0] += 1
        moved = (attention_shares(pool, after) - before).norm(dim=-1)
    assert int(moved.argmax()) == 2
    assert moved[0, 0] < 1e-3 * moved[1, 0]


@pytest.mark.parametrize(
    "norm", [nn.LayerNorm(5), nn.RMSNorm(5), RmsNorm(5), SimpleNorm(5), nn.LayerNorm(5, bias=False)]
)
def test_a_held_norm_is_the_norm_at_the_mean(norm: nn.Module) -> None:
    rows = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    pooled = rows.mean(dim=0)
    with torch.no_grad():
        assert held_norm(norm, rows, pooled).mean(dim=0) == pytest.approx(norm(pooled), abs=1e-5)


def test_nothing_is_held_where_there_is_no_norm_or_an_unknown_one() -> None:
    rows = torch.ones(7, 5)
    assert held_norm(nn.Identity(), rows, rows[0]) is rows
    with pytest.raises(InputError, match="GroupNorm behind the pooling"):
        held_norm(nn.GroupNorm(1, 5), rows, rows[0])


@pytest.mark.parametrize(
    ("vision", "sentence"),
    [
        ({**VIT, "attentional_pool": True, "attn_pooler_heads": 2}, "CoCa"),
        ({**TIMM, "timm_model_name": "test_convnext", "timm_pool": "max"}, "which part of a page"),
        (
            {**TIMM, "timm_model_name": "test_efficientnet", "timm_pool": "abs_attn", "timm_proj": ""},
            "which part",
        ),
    ],
)
def test_what_is_not_known_is_refused(vision: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        patches_of(tower(vision, tmp_path))


def test_what_only_seems_to_be_known_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tower(EXACT["convnext"][0], tmp_path)
    monkeypatch.setattr(
        "mmret.backbones.openclip.patch_vectors", lambda _, pixels: (torch.ones(5, 5, 16), True)
    )
    with pytest.raises(InputError, match="a way of its own"):
        patches_of(backbone)
