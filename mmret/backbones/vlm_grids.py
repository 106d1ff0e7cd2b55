"""Where the tokens of a page lie on it, for the families of vision-language models whose tokens lie on a grid.

| grid | order of a page's tokens | who has it |
|---|---|---|
| `merged` | row by row, `image_grid_thw` over the merge size | Qwen-VL |
| `square` | row by row, as many rows as columns | PaliGemma |
| `tiles` | tile by tile, row by row in each, then one more view of the whole page | Idefics3, SmolVLM |

A page that is not divided into tiles has the view of the whole alone. Where the tokens of Phi-3-vision lie, its own
processor says.
"""

from collections.abc import Mapping
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from mmret.errors import InputError


def token_places(grid: str, images: Mapping[str, Any], count: int, merge: int = 1) -> Tensor:
    """Return int64 [h, w]: the number, among the `count` image tokens of one page, of the token at each place.

    `images` is what the image processor gave for this page, `merge` how many patches of a side it makes one token of.
    Raises `InputError` where the family's order is not known, or is not what it should be.
    """
    if grid == "merged":
        height, width = (int(side) // merge for side in images["image_grid_thw"][0, 1:])
        places = torch.arange(height * width).view(height, width)
    elif grid == "square":
        places = torch.arange(count).view(_side(count), -1)
    elif grid == "tiles":
        places = _tiled(int(images["rows"][0][0]), int(images["cols"][0][0]), count)
    else:
        raise InputError(
            "where the tokens of a page lie on it is known of Qwen-VL, PaliGemma, Idefics3 and Phi-3-vision alone, and "
            "of the models that are built on them."
        )
    return places


def _tiled(rows: int, columns: int, count: int) -> Tensor:
    """The tiles' tokens put together, or those of the whole page where there are no tiles."""
    tiles = rows * columns
    side = _side(count // (tiles + 1))
    if not tiles:
        return torch.arange(count).view(side, side)
    numbers = torch.arange(tiles * side * side).view(rows, columns, side, side)
    return numbers.transpose(1, 2).reshape(rows * side, columns * side)


def _side(count: int) -> int:
    side = isqrt(count)
    if side * side != count:
        raise InputError(
            f"a page has {count} tokens, which lie on no square; this processor is not known here."
        )
    return side
