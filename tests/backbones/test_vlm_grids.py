import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from mmret.backbones import load_backbone
from mmret.backbones.base import TokenVectors
from mmret.backbones.pooling import LatentAttention
from mmret.backbones.vlm_grids import token_places
from mmret.backbones.vlm_pages import VlmBackbone
from mmret.errors import InputError
from tests.backbones.tiny_pages import FAMILIES


def test_merged_patches_lie_row_by_row() -> None:
    grid = {"image_grid_thw": torch.tensor([[1, 4, 6]])}
    assert token_places("merged", grid, 6, merge=2).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_tiles_are_put_together() -> None:
    # Two rows and one column of tiles, each of 2 × 2 tokens, and a view of the whole page behind them.
    tiles = {"rows": [[2]], "cols": [[1]]}
    assert token_places("tiles", tiles, 12).tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    tiles = {"rows": [[1]], "cols": [[2]]}
    assert token_places("tiles", tiles, 12).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]
    whole = {"rows": [[0]], "cols": [[0]]}
    assert token_places("tiles", whole, 4).tolist() == [[0, 1], [2, 3]]


def test_what_lies_on_no_grid_is_refused() -> None:
    with pytest.raises(InputError, match="5 tokens, which lie on no square"):
        token_places("square", {}, 5)
    with pytest.raises(InputError, match="known of Qwen-VL"):
        token_places("", {}, 4)


#: Of a page of 24 × 40 pixels: squares of 4 × 4; 16 × 16 pixels in patches of 4 × 4; 2 × 2 tiles (its longer side is
#: scaled to 32, and a tile is 16 wide) of 2 × 2 tokens.
GRIDS = {
    "qwen2_vl": (10, 6),
    "qwen2_5_vl": (10, 6),
    "qwen3_vl": (10, 6),
    "colqwen2": (10, 6),
    "paligemma": (4, 4),
    "colpali": (4, 4),
    "idefics3": (4, 4),
    "smolvlm": (4, 4),
    "phi3_v": (6, 4),
}
#: Two columns and three rows of Phi-3's tiles, each of 2 × 2 tokens.
RESIZING = {"paligemma": "square-16", "colpali": "square-16", "phi3_v": "crops-2x3"}


def loaded(family: str, folder: Path) -> VlmBackbone:
    name = f"vlm:{FAMILIES[family](folder / family)}?pooling=tokens"
    backbone = load_backbone(name, preprocess=RESIZING.get(family, "smart-4-1-60"))
    assert isinstance(backbone, VlmBackbone)
    return backbone


def page() -> Tensor:
    return torch.randint(0, 256, (3, 40, 24), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def prepared(backbone: VlmBackbone, pixels: Tensor) -> Tensor:
    return backbone.transform.pixels(to_pil_image(pixels))


@pytest.mark.parametrize(("family", "grid"), GRIDS.items())
def test_tokens_on_the_page_are_among_those_that_are_searched(
    family: str, grid: tuple[int, int], tmp_path: Path
) -> None:
    backbone = loaded(family, tmp_path)
    pixels = prepared(backbone, page())
    with torch.no_grad():
        patches, searched = backbone.encode_patches(pixels), backbone.encode_documents([pixels])
    assert isinstance(searched, TokenVectors)
    assert isinstance(patches.whole, TokenVectors)
    assert patches.exact
    assert patches.vectors.shape[:2] == grid
    assert patches.whole.vectors == pytest.approx(searched.vectors, abs=1e-5)
    nearest = (patches.vectors.flatten(0, 1) @ searched.vectors.T).max(dim=1).values
    assert nearest == pytest.approx(torch.ones_like(nearest), abs=1e-4)


def test_the_places_of_a_page_are_told_apart(tmp_path: Path) -> None:
    """A patch that changes moves its own token, in a model whose patches see one another little."""
    backbone = loaded("qwen2_vl", tmp_path)
    pixels = torch.full((3, 40, 24), 127, dtype=torch.uint8)
    changed = pixels.clone()
    changed[:, 4:8, 20:24] = 255  # the second row's last square
    seen: list[Any] = []
    backbone.model.visual.merger.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.no_grad():
        backbone.encode_patches(pixels)
        backbone.encode_patches(changed)
    places = backbone.inputs.places(pixels, 60)
    moved = (seen[1] - seen[0]).norm(dim=-1)[places]
    assert divmod(int(moved.argmax()), 6) == (1, 5)


def test_clustered_tokens_are_shown_as_they_were(tmp_path: Path) -> None:
    backbone = load_backbone(
        f"vlm:{FAMILIES['qwen2_vl'](tmp_path / 'q')}?pooling=tokens-3", preprocess="smart-4-1-60"
    )
    with torch.no_grad():
        patches = backbone.encode_patches(page())
    assert not patches.exact
    assert patches.vectors.shape[:2] == (10, 6)


#: Options of a folder of Qwen2-VL → how many first tokens its mean is not of: latent attention leaves the instruction
#: out, which is `<|im_start|>`, "system", a newline, the 28 bytes of its sentence, `<|im_end|>`, a newline,
#: `<|im_start|>`, "user", a newline.
MEANS = {
    "?pooling=mean": 0,
    "?pooling=mean&width=5": 0,
    "?pooling=latent-attention": 6 + 2 + 28 + 2 + 1 + 4 + 1,
}


@pytest.mark.parametrize(("options", "skipped"), MEANS.items())
def test_a_mean_is_what_the_page_s_tokens_bring_and_those_around_them(
    options: str, skipped: int, tmp_path: Path
) -> None:
    folder, latent = FAMILIES["qwen2_vl"](tmp_path / "q"), LatentAttention(16, latents=8)
    save_file(dict(latent.state_dict()), folder / "latent_attention.safetensors")
    backbone = load_backbone(f"vlm:{folder}{options}", preprocess="smart-4-1-60")
    assert isinstance(backbone, VlmBackbone)
    with torch.no_grad():
        patches, (whole,) = backbone.encode_patches(page()), backbone.encode_images([page()])
        states, image = states_of(backbone, page())
        each = (latent.attended(states[None])[0] if "latent" in options else states)[:, : len(whole)]
    assert patches.exact
    assert patches.vectors.shape == (10, 6, len(whole))
    assert patches.elsewhere is not None
    assert patches.vectors.mean(dim=(0, 1)) + patches.elsewhere == pytest.approx(whole, abs=1e-5)
    others = ~image & (torch.arange(len(image)) >= skipped)
    counted = int(others.sum()) + 60
    assert patches.elsewhere == pytest.approx(each[others].sum(dim=0) / counted, abs=1e-5)
    assert patches.vectors[3, 2] == pytest.approx(each[image][3 * 6 + 2] * 60 / counted, abs=1e-5)


def states_of(backbone: VlmBackbone, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """The last hidden states [L, H] of a page, and which of them are of image tokens."""
    inputs = backbone.inputs.of_images(backbone.spec.document_prompt, [pixels])
    states = backbone.model(**inputs).last_hidden_state[0]
    return states, inputs["input_ids"][0] == backbone.inputs.image_id


def test_beside_a_last_token_stand_those_of_the_page(tmp_path: Path) -> None:
    backbone = load_backbone(f"vlm:{FAMILIES['qwen2_vl'](tmp_path / 'q')}?width=8", preprocess="smart-4-1-60")
    assert isinstance(backbone, VlmBackbone)
    with torch.no_grad():
        patches = backbone.encode_patches(page())
        states, image = states_of(backbone, page())
    assert not patches.exact
    assert patches.elsewhere is None
    assert patches.whole == pytest.approx(states[-1:, :8], abs=1e-5)
    assert patches.vectors == pytest.approx(states[image, :8].view(10, 6, 8), abs=1e-5)


@pytest.mark.parametrize("tiles_first", [True, False])
def test_the_places_of_tiles_between_separators_are_told_apart(tiles_first: bool, tmp_path: Path) -> None:
    folder = FAMILIES["phi3_v"](tmp_path / "p")
    config = json.loads((folder / "config.json").read_text())
    config["embd_layer"]["hd_transform_order"] = "sub_glb" if tiles_first else "glb_sub"
    (folder / "config.json").write_text(json.dumps(config))
    backbone = load_backbone(f"vlm:{folder}", preprocess="crops-2x3")
    assert isinstance(backbone, VlmBackbone)
    pixels = torch.full((3, 3 * 336, 2 * 336), 127, dtype=torch.uint8)
    changed = pixels.clone()
    changed[:, 4 * 168 : 5 * 168, 168:336] = 255  # two patches a side: the fifth row's second place
    with torch.no_grad():
        tokens = [
            backbone.model.image_features(images["pixel_values"], images["tiles"].tolist())
            for images in (backbone.inputs.of_images("{image}", [each]) for each in (pixels, changed))
        ]
    moved = (tokens[1] - tokens[0]).norm(dim=-1)
    places = backbone.inputs.places(pixels, len(moved))
    assert len(places.unique()) == 24
    assert divmod(int(moved[places].argmax()), 4) == (4, 1)
    around = moved.clone()
    around[places] = 0
    assert int((around > 1e-6).sum()) == 4  # of the view of the whole page


def test_models_without_a_grid_are_refused_before_they_are_asked(tmp_path: Path) -> None:
    folder = FAMILIES["phi4_multimodal"](tmp_path / "p")
    for options in ("", "?pooling=tokens"):
        backbone = load_backbone(f"vlm:{folder}{options}", preprocess="native")
        assert isinstance(backbone, VlmBackbone)
        backbone.model.forward = None  # type: ignore[method-assign,assignment]
        with pytest.raises(InputError, match="known of Qwen-VL"):
            backbone.encode_patches(page())
