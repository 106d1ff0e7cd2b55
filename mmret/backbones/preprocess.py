"""From a PIL image to a normalised square tensor: the preprocessings of the field as named values.

| name | geometry, before the tensor is normalised | who uses it |
|---|---|---|
| `center-crop` | shorter side to the input size, centre crop | CLIP, Pic2Word, LinCIR |
| `center-crop-F` | shorter side to ⌊size / F⌋, centre crop | timm's "crop_pct" |
| `target-pad-R` | black bars until long : short is R, `center-crop` | SEARLE, CIReVL, LDRE, SEIZE (1.25) |
| `squash` | both sides to the input size, proportions lost | SigLIP, CLIPA, PE |
| `letterbox` | longer side to the input size, black bars | open_clip's "longest" |

Sizes are in pixels. A transform is a frozen value: it can be compared, printed and sent to a worker process. What
vision-language models do with whole pages is in `resizing.py`, pages in several crops are in `crops.py`. `own` stands
for whatever the backbone's own is.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, functional

from mmret.errors import InputError

_INTERPOLATIONS = {"bicubic": InterpolationMode.BICUBIC, "bilinear": InterpolationMode.BILINEAR}
_NAME = re.compile(r"(center-crop|squash|letterbox)|(center-crop|target-pad)-(\d+(?:\.\d+)?)")
_LARGEST_STEP = 2**28  # pixels

OWN = "own"
"""The name that stands for a backbone's own preprocessing, in a benchmark's protocol for instance."""

Pixels = Tensor | Sequence[Tensor]
"""A batch of images: [B, 3, H, W] where all have one size, else B tensors [3, H, W]."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels of an image; it may reach beyond the image."""


class ImageTransform(Protocol):
    """From an image to what a backbone encodes, in two halves; a value that is sent to worker processes."""

    def __call__(self, image: Image.Image, /) -> Tensor:
        """Return both halves: one image, ready for `encode_images`."""

    def pixels(self, image: Image.Image, /) -> Tensor:
        """Return the geometry's half, uint8 [3, H, W]."""

    def stack(self, images: Sequence[Tensor], /) -> Pixels:
        """Return several results of `pixels` as one batch."""

    def normalise(self, pixels: Pixels, /) -> Pixels:
        """Return the arithmetic's half of a batch, on its device."""

    def region(self, width: int, height: int, /) -> Box:
        """Return what the model sees of an image of so many pixels, to within a pixel."""


@dataclass(frozen=True)
class Preprocess:
    """A transform PIL image → float32 [3, size, size]; make one with `build_transform`."""

    name: str
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"

    def __call__(self, image: Image.Image) -> Tensor:
        """Return the image as a float32 tensor [3, size, size], normalised by channel."""
        return self.normalise(self.pixels(image))

    def pixels(self, image: Image.Image) -> Tensor:
        """Return the geometry's half, uint8 [3, size, size]: a quarter of the bytes to pass around."""
        family, number = parse_name(self.name)
        square = _GEOMETRY[family](image, self.size, number, _INTERPOLATIONS[self.interpolation])
        pixels: Tensor = functional.pil_to_tensor(square.convert("RGB"))
        return pixels

    def resized(self, image: Image.Image, width: int, height: int) -> Tensor:
        """Return the image at another size, proportions lost, uint8 [3, height, width], by the same interpolation."""
        scaled = functional.resize(image.convert("RGB"), [height, width], _INTERPOLATIONS[self.interpolation])
        pixels: Tensor = functional.pil_to_tensor(scaled)
        return pixels

    def stack(self, images: Sequence[Tensor]) -> Tensor:
        """Return images of one size as one tensor [B, 3, size, size]."""
        return torch.stack(list(images))

    def normalise(self, pixels: Pixels) -> Tensor:
        """Return the arithmetic's half, float32 of `pixels` uint8 [..., 3, H, W], on their device."""
        stacked = pixels if isinstance(pixels, Tensor) else self.stack(pixels)
        unit = stacked.to(torch.float32).div_(255)
        normalised: Tensor = functional.normalize(unit, list(self.mean), list(self.std), inplace=True)
        return normalised

    def region(self, width: int, height: int) -> Box:
        """Return what the model sees of an image of so many pixels; bars of a letterbox lie beyond the image."""
        family, number = parse_name(self.name)
        short, long = sorted((width, height))
        if family == "squash":
            return 0, 0, width, height
        if family == "center-crop":
            side = short * self.size / math.floor(self.size / number)
        else:
            side = max(short, long / number) if family == "target-pad" else long
        return centred(width, height, side, side)


def build_transform(
    name: str,
    size: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    interpolation: str = "bicubic",
) -> Preprocess:
    """Return the transform called `name` for a model with `size` × `size` pixels.

    Raises `InputError` for an unknown name or interpolation.
    """
    parse_name(name)
    if interpolation not in _INTERPOLATIONS:
        raise InputError(f"unknown interpolation {interpolation!r}: use one of {', '.join(_INTERPOLATIONS)}.")
    return Preprocess(name, size, mean, std, interpolation)


def centred(width: float, height: float, inner_width: float, inner_height: float) -> Box:
    """Return the box of a size in the middle of an image; where it is larger, it reaches beyond on both sides."""
    left, top = (width - inner_width) / 2, (height - inner_height) / 2
    return left, top, left + inner_width, top + inner_height


def parse_name(name: str) -> tuple[str, float]:
    """Return the family of a preprocessing and its number (1 where it has none); raises `InputError`."""
    found = _NAME.fullmatch(name)
    family, number = (found[1] or found[2], float(found[3] or 1)) if found else ("", 0.0)
    if not family or not _in_range(family, number):
        raise InputError(
            f"unknown preprocessing {name!r}: use center-crop, squash, letterbox, center-crop-FRACTION as in "
            "center-crop-0.875, or target-pad-RATIO with a ratio of at least 1 as in target-pad-1.25."
        )
    return family, number


def _in_range(family: str, number: float) -> bool:
    """Whether a family's number makes sense: long : short is at least 1, a crop fraction is positive."""
    return number >= 1 if family == "target-pad" else number > 0


def _center_crop(image: Image.Image, size: int, fraction: float, resample: InterpolationMode) -> Image.Image:
    """Shorter side to ⌊size / fraction⌋, then the central square (CLIP's own with fraction 1)."""
    side = math.floor(size / fraction)
    _require_area(image, side, side * max(image.size) / min(image.size))
    cropped: Image.Image = functional.center_crop(functional.resize(image, side, resample), size)
    return cropped


def _target_pad(image: Image.Image, size: int, ratio: float, resample: InterpolationMode) -> Image.Image:
    """Black bars on the short side until the proportion is `ratio`, then centre crop (CLIP4Cir, SEARLE).

    Bars are cut to whole pixels and equal on both sides, as in the released preprocessing: an odd remainder
    leaves the image one pixel narrower than the ratio asks for.
    """
    width, height = image.size
    wanted = max(width, height) / ratio
    if min(width, height) <= wanted:
        _require_area(image, wanted, max(width, height))
        across, down = max(int((wanted - width) / 2), 0), max(int((wanted - height) / 2), 0)
        image = functional.pad(image, [across, down, across, down], 0)
    return _center_crop(image, size, 1, resample)


def _require_area(image: Image.Image, width: float, height: float) -> None:
    """Refuse an image so long and thin that a step of its preprocessing would fill the memory."""
    if width * height > _LARGEST_STEP:
        raise InputError(
            f"an image of {image.width} × {image.height} pixels is too long and thin to be scaled: crop it."
        )


def _squash(image: Image.Image, size: int, _: float, resample: InterpolationMode) -> Image.Image:
    """Both sides to `size`."""
    resized: Image.Image = functional.resize(image, [size, size], resample)
    return resized


def _letterbox(image: Image.Image, size: int, _: float, resample: InterpolationMode) -> Image.Image:
    """Longer side to `size`, black bars around, the odd pixel right and below."""
    width, height = image.size
    scale = max(width, height) / size
    inner = [max(1, round(height / scale)), max(1, round(width / scale))]
    across, down = size - inner[1], size - inner[0]
    bars = [across // 2, down // 2, across - across // 2, down - down // 2]
    padded: Image.Image = functional.pad(functional.resize(image, inner, resample), bars, 0)
    return padded


_GEOMETRY: dict[str, Callable[[Image.Image, int, float, InterpolationMode], Image.Image]] = {
    "center-crop": _center_crop,
    "target-pad": _target_pad,
    "squash": _squash,
    "letterbox": _letterbox,
}
