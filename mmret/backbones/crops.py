"""A page in crops, for encoders whose input is one small square: X × Y tiles and a view of the whole, each encoded.

| name | what becomes of the X · Y + 1 vectors |
|---|---|
| `crops-XxY` | their mean: one vector a page |
| `crops-XxY-each` | they stay as they are: several vectors a page, of which the best answers a query (MaxSim) |

A page is resized to (X · size) × (Y · size) pixels, proportions lost, and cut into tiles of size × size, row by row;
the last view is the whole page at size × size. So does the DSE paper (arXiv 2406.11251, section 3.2), whose language
model then reads the patches of all crops in one sequence. An encoder with two towers has no such place where crops
meet: all that is left to do is to pool their vectors.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from PIL import Image
from torch import Tensor

from mmret.backbones.preprocess import Box, Pixels, Preprocess
from mmret.errors import InputError

_NAME = re.compile(r"crops-([1-9]\d?)x([1-9]\d?)(-each)?")
_MOST: Final = 100  # views: beyond this a page at 224 pixels a tile has more dots than it is printed with


@dataclass(frozen=True)
class Crops:
    """The numbers of a preprocessing's name: `columns` × `rows` tiles; whether each view keeps its vector."""

    columns: int
    rows: int
    each: bool

    @property
    def views(self) -> int:
        """V: the tiles and the whole page."""
        return self.columns * self.rows + 1


def parse_crops(name: str) -> Crops | None:
    """Return what a name says, None if it does not begin with `crops-`; raises `InputError` if it says it wrongly."""
    if not name.startswith("crops-"):
        return None
    found = _NAME.fullmatch(name)
    crops = Crops(int(found[1]), int(found[2]), bool(found[3])) if found else None
    if crops is None or crops.views > _MOST:
        raise InputError(
            f"{name!r} divides no page: write crops-COLUMNSxROWS, with less than {_MOST} crops, as in crops-4x4 or "
            "crops-4x4-each."
        )
    return crops


@dataclass(frozen=True)
class CropTransform:
    """A transform PIL image → float32 [V, 3, size, size]: tiles row by row, then the whole; `square` makes a square."""

    crops: Crops
    square: Preprocess

    def __call__(self, image: Image.Image) -> Tensor:
        """Return the views as float32 [V, 3, size, size], normalised by channel."""
        return self.normalise(self.pixels(image))

    def pixels(self, image: Image.Image) -> Tensor:
        """Return the views, uint8 [V, 3, size, size]."""
        size, crops = self.square.size, self.crops
        resized = self.square.resized(image, crops.columns * size, crops.rows * size)
        tiles = resized.view(3, crops.rows, size, crops.columns, size)
        whole = self.square.resized(image, size, size)
        return torch.cat([tiles.permute(1, 3, 0, 2, 4).flatten(0, 1), whole[None]])

    def stack(self, images: Sequence[Tensor]) -> Tensor:
        """Return pages as one tensor [B, V, 3, size, size]."""
        return self.square.stack(images)

    def normalise(self, pixels: Pixels) -> Tensor:
        """Return float32 of `pixels` uint8 [..., 3, H, W], on their device."""
        return self.square.normalise(pixels)

    def region(self, width: int, height: int) -> Box:
        """Return the whole page: nothing is cut off."""
        return 0, 0, width, height


def patches_of_views(views: Tensor, crops: Crops) -> Tensor:
    """Return patches [rows · h, columns · w, D] whose mean is the mean over V views [V, h, w, D] of all their patches.

    A place has what its tile brings, and what the view of the whole brings there, each weighted by its number of views.
    """
    tiles = views[:-1].view(crops.rows, crops.columns, *views.shape[1:]).transpose(1, 2)
    whole = views[-1].repeat_interleave(crops.rows, dim=0).repeat_interleave(crops.columns, dim=1)
    return (tiles.reshape(whole.shape) * (crops.views - 1) + whole) / crops.views
