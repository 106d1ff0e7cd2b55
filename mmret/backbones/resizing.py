"""From a page to what a vision-language model takes: whole pages of any shape, as named values.

| name | what becomes of a page of W × H pixels | who uses it |
|---|---|---|
| `native` | it stays as it is; the model's own processor does the rest | Phi-4-multimodal |
| `square-N` | N × N, proportions lost | PaliGemma, ColPali (448); DSE's training of Qwen2-VL (756) |
| `longest-N` | the longer side shrunk to N where it is longer | Idefics3, SmolVLM |
| `smart-F-MIN-MAX` | both sides multiples of F, MIN … MAX squares of F × F, proportions kept | Qwen-VL, DSE-Qwen2 |
| `crops-XxY` | X × Y tiles, proportions lost | Phi-3-vision as the DSE paper has it |
| `hd-N` | white bars to whole tiles, at most N of them, proportions kept | Phi-3-vision as published |

Resizing is Pillow's, bicubic, in the processes that read ahead, so that a batch of pages stays as small as the model
will see it; what follows (tiles, patches, normalisation) is the model's processor's. Tiles are `tile` pixels wide.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image
from torch import Tensor
from torchvision.transforms import functional

from mmret.backbones.preprocess import Box, Pixels, centred
from mmret.errors import InputError

_NAME = re.compile(
    r"(native)|(square|longest|hd)-([1-9]\d*)|(smart)-([1-9]\d*)-([1-9]\d*)-([1-9]\d*)"
    r"|(crops)-([1-9]\d*)x([1-9]\d*)"
)
_MOST_STRETCHED = 200  # Qwen's processors refuse longer : shorter beyond this
_LARGEST = 2**28  # pixels

TILE = 336
"""Side of a tile in pixels, of a model that says nothing else: Phi-3-vision's."""


@dataclass(frozen=True)
class PageTransform:
    """A transform PIL image → uint8 [3, H, W] of a size that depends on the image; see this module's table."""

    name: str
    tile: int = TILE

    def __call__(self, image: Image.Image) -> Tensor:
        """Return the page resized: `encode_images` takes it as it is."""
        return self.pixels(image)

    def pixels(self, image: Image.Image) -> Tensor:
        """Return the page resized, uint8 [3, H, W]; raises `InputError` for a page too long and thin."""
        inner, outer = self.sizes(image.width, image.height)
        if outer[0] * outer[1] > _LARGEST:
            raise InputError(
                f"an image of {image.width} × {image.height} pixels is too long and thin: crop it."
            )
        page = image.convert("RGB")
        if inner != page.size:
            page = page.resize(inner, Image.Resampling.BICUBIC)
        if outer != inner:
            page = _on_white(page, outer)
        pixels: Tensor = functional.pil_to_tensor(page)
        return pixels

    def stack(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Return pages as a batch: a list, for they have sizes of their own."""
        return list(images)

    def normalise(self, pixels: Pixels) -> Pixels:
        """Return the pages as they are: the model's processor normalises them."""
        return pixels

    def region(self, width: int, height: int) -> Box:
        """Return what the model sees of a page of so many pixels: all of it, and the white sheet around it."""
        inner, outer = self.sizes(width, height)
        return centred(width, height, outer[0] * width / inner[0], outer[1] * height / inner[1])

    def sizes(self, width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the size (W, H) that a page is scaled to, and the size of the white sheet around it."""
        family, numbers = parse_resizing(self.name)
        if family == "hd":
            return _hd(width, height, numbers[0], self.tile)
        size = {
            "native": lambda: (width, height),
            "square": lambda: (numbers[0], numbers[0]),
            "longest": lambda: _longest(width, height, *numbers),
            "smart": lambda: _smart(width, height, *numbers),
            "crops": lambda: (numbers[0] * self.tile, numbers[1] * self.tile),
        }[family]()
        return size, size


def parse_resizing(name: str) -> tuple[str, tuple[int, ...]]:
    """Return the family of a resizing and its numbers; raises `InputError` for a name that is none."""
    found = _NAME.fullmatch(name)
    if not found:
        raise InputError(
            f"{name!r} is no resizing for a vision-language model, which takes whole pages: use own (its own), native, "
            "square-N, longest-N, smart-FACTOR-MIN-MAX, crops-XxY or hd-N."
        )
    words = [word for word in found.groups() if word]
    return words[0], tuple(map(int, words[1:]))


def step_of(name: str, tile: int = TILE) -> int:
    """Return what both sides of every resized page are multiples of, in pixels; raises `InputError` for no resizing."""
    family, numbers = parse_resizing(name)
    if family in ("square", "smart"):
        return numbers[0]
    return tile if family in ("crops", "hd") else 1


def _longest(width: int, height: int, longest: int) -> tuple[int, int]:
    scale = min(1.0, longest / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _smart(width: int, height: int, factor: int, fewest: int, most: int) -> tuple[int, int]:
    """Qwen's rule: the multiples of `factor` next to the sides, unless these hold too few squares or too many."""
    if max(width, height) > _MOST_STRETCHED * min(width, height):
        raise InputError(f"an image of {width} × {height} pixels is too long and thin: crop it.")
    across, down = (max(1, round(side / factor)) for side in (width, height))
    if across * down > most:
        shrink = math.sqrt(width * height / (most * factor**2))
        across, down = (max(1, math.floor(side / shrink / factor)) for side in (width, height))
    elif across * down < fewest:
        grow = math.sqrt(fewest * factor**2 / (width * height))
        across, down = (math.ceil(side * grow / factor) for side in (width, height))
    return across * factor, down * factor


def _hd(width: int, height: int, most: int, tile: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Phi-3-vision's rule: as many tiles along the longer side as keep within `most`, white bars on the shorter."""
    ratio = max(width, height) / min(width, height)
    along = max(n for n in range(1, most + 1) if n == 1 or n * math.ceil(n / ratio) <= most)
    long, short = along * tile, max(1, int(along * tile / ratio))
    sheet = long, math.ceil(short / tile) * tile
    return ((long, short), sheet) if width >= height else ((short, long), sheet[::-1])


def _on_white(page: Image.Image, size: tuple[int, int]) -> Image.Image:
    sheet = Image.new("RGB", size, "white")
    sheet.paste(page, ((size[0] - page.width) // 2, (size[1] - page.height) // 2))
    return sheet
