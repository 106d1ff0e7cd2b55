import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmret.backbones import load_backbone
from mmret.backbones.phi3_vision import (
    CLIP_L_14_336,
    Phi3Images,
    Phi3VisionModel,
    build_phi3_vision,
    count_tokens,
    our_key,
    public_key,
)
from mmret.backbones.vlm_pages import VlmBackbone
from mmret.errors import InputError
from tests.backbones.tiny_pages import FAMILIES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FAMILIES["phi3_v"](tmp_path_factory.mktemp("phi") / "tiny")


def test_tokens_of_a_page_are_counted_as_published() -> None:
    patches = CLIP_L_14_336["image_size"] // CLIP_L_14_336["patch_size"]
    assert count_tokens(4, 4, patches, separators=False) == (4 * 4 + 1) * 576 // 4 == 2448  # the paper
    for down, across in ((1, 1), (4, 4), (16, 1), (3, 5)):  # the published processor's own formula
        assert count_tokens(down, across) == (down * across + 1) * 144 + 1 + (down + 1) * 12


def test_the_full_model_has_the_published_shapes() -> None:
    config = {"hidden_size": 3072, "num_hidden_layers": 1, "embd_layer": {"hd_transform_order": "sub_glb"}}
    with torch.device("meta"):
        model = build_phi3_vision(config, image_id=32044)
    assert model.tiles_first and model.sub_GN.shape == (1, 1, 1, 4096) and model.glb_GN.shape == (1, 1, 4096)
    assert model.projection[0].weight.shape == (3072, 4096) and model.projection[2].weight.shape == (
        3072,
        3072,
    )
    assert model.image_features(torch.empty(17, 3, 336, 336, device="meta"), [(4, 4)]).shape == (2509, 3072)
    state = model.state_dict()
    published = {public_key(key) for key in state}
    assert {our_key(key) for key in published} == set(state)
    vision = "model.vision_embed_tokens.img_processor.vision_model.encoder.layers.23.self_attn.q_proj.weight"
    assert {vision, "model.embed_tokens.weight", "model.layers.0.mlp.gate_up_proj.weight"} <= published
    assert {
        "model.vision_embed_tokens.glb_GN",
        "model.vision_embed_tokens.img_projection.2.bias",
    } <= published


def test_a_page_is_laid_out_tile_by_tile(folder: Path) -> None:
    """Tokens in reading order over all tiles, a separator at the end of each row, the whole page last."""
    model = model_of(folder)
    down, across, side = 2, 3, 2
    patches = torch.arange(7 * 16.0).reshape(7, 16, 1).expand(-1, -1, 16)
    with torch.no_grad():
        model.sub_GN.fill_(-1)
        model.glb_GN.fill_(-2)
        page = model._page(patches, down, across)[0]
    assert len(page) == count_tokens(down, across, patches=4)
    rows = page[: down * side * (across * side + 1)].reshape(down * side, across * side + 1, -1)
    assert (rows[:, -1] == -1).all() and (page[len(rows) * rows.shape[1]] == -2).all()
    # Tile (0, 1) is the third image, behind the whole page; its first token is patches 0, 1, 4, 5.
    assert rows[0, side].reshape(4, 16)[:, 0].tolist() == [32.0, 33.0, 36.0, 37.0]
    assert rows[side, 0].reshape(4, 16)[:, 0].tolist() == [64.0, 65.0, 68.0, 69.0]  # tile (1, 0)
    assert page[-1].tolist() == [-1.0] * 64 and page[-6].reshape(4, 16)[:, 0].tolist() == [0.0, 1.0, 4.0, 5.0]


def test_tiles_are_cut_in_reading_order_behind_the_whole() -> None:
    page = torch.zeros(3, 8, 12, dtype=torch.uint8)
    page[:, :4, 8:] = 255
    cut = Phi3Images(4, (0.0,) * 3, (1.0,) * 3)([page])
    assert cut["tiles"].tolist() == [[2, 3]] and cut["pixel_values"].shape == (7, 3, 4, 4)
    assert cut["pixel_values"][1:].mean(dim=(1, 2, 3)).tolist() == [0, 0, 1, 0, 0, 0]
    with pytest.raises(InputError, match="not cut into tiles of 4"):
        Phi3Images(4, (0.0,) * 3, (1.0,) * 3)([page[:, :7]])


def test_clip_is_read_before_its_last_layer(folder: Path) -> None:
    model, pixels = model_of(folder), torch.randn(2, 3, 336, 336)
    with torch.no_grad():
        states = model.vision.pre_layrnorm(model.vision.embeddings(pixels))
        for layer in model.vision.encoder.layers[:-1]:
            states = layer(states, attention_mask=None)
        expected = model.projection(model._page(states[:, 1:], 1, 1))[0]
        assert torch.allclose(model.image_features(pixels, [(1, 1)]), expected, atol=1e-5)


def model_of(folder: Path) -> Phi3VisionModel:
    backbone = load_backbone(str(folder))
    assert isinstance(backbone, VlmBackbone) and isinstance(backbone.model, Phi3VisionModel)
    return backbone.model


def test_every_published_weight_has_a_place(folder: Path, tmp_path: Path) -> None:
    state = load_file(folder / "model.safetensors")
    model = model_of(folder)
    key = "model.vision_embed_tokens.img_processor.vision_model.encoder.layers.0.mlp.fc1.bias"
    assert torch.equal(model.state_dict()[str(our_key(key))], state[key])
    for change, message in (
        ({"model.vision_embed_tokens.sub_GN": None}, "lacks 1 weights.*sub_GN"),
        ({"model.strange.weight": torch.zeros(1)}, "no part of Phi-3-vision: model.strange.weight"),
        ({"model.norm.weight": torch.zeros(3)}, "not for the architecture phi3-vision"),
    ):
        changed = {k: v for k, v in {**state, **change}.items() if v is not None}
        other = tmp_path / message[:5].strip()
        other.mkdir()
        for file in folder.glob("*.json"):
            (other / file.name).write_bytes(file.read_bytes())
        save_file(changed, other / "model.safetensors")
        with pytest.raises(InputError, match=message):
            load_backbone(str(other))


def test_a_tokenizer_without_an_image_token_is_refused(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    words = json.loads((tmp_path / "tokenizer.json").read_text().replace("<|image|>", "<|picture|>"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(words))
    config = (tmp_path / "tokenizer_config.json").read_text().replace("<|image|>", "<|picture|>")
    (tmp_path / "tokenizer_config.json").write_text(config)
    with pytest.raises(InputError, match=r"has no <\|image\|>"):
        load_backbone(str(tmp_path))
