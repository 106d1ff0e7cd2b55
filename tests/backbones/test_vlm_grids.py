from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from mmret.backbones import load_backbone
from mmret.backbones.base import TokenVectors
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
}


def loaded(family: str, folder: Path) -> VlmBackbone:
    name = f"vlm:{FAMILIES[family](folder / family)}?pooling=tokens"
    backbone = load_backbone(name, preprocess="square-16" if "pali" in family else "smart-4-1-60")
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


def test_models_of_one_vector_or_without_a_grid_are_refused(tmp_path: Path) -> None:
    single = load_backbone(f"vlm:{FAMILIES['qwen2_vl'](tmp_path / 'q')}", preprocess="smart-4-1-60")
    with pytest.raises(InputError, match="last pooling, which says nothing about its parts"):
        single.encode_patches(page())
    other = load_backbone(f"vlm:{FAMILIES['phi3_v'](tmp_path / 'p')}?pooling=tokens", preprocess="crops-1x1")
    with pytest.raises(InputError, match="known of Qwen-VL"):
        other.encode_patches(prepared(other, page()))  # type: ignore[arg-type]
