"""From a PIL image to a normalised square tensor: the preprocessings of the field as named values.

| name | what happens before the tensor is normalised | who uses it |
|---|---|---|
| `center-crop` | shorter side to the input size, centre crop | CLIP, Pic2Word, LinCIR |
| `target-pad-R` | black bars until long side : short side is R, then `center-crop` | SEARLE, CIReVL, LDRE, SEIZE (R = 1.25) |
| `squash` | both sides to the input size, proportions lost | SigLIP, CLIPA, PE |
| `letterbox` | longer side to the input size, black bars | – |

Sizes are in pixels, (height, width) where two are given. A transform is a frozen value: it can be compared,
printed and sent to a worker process.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from mmret.errors import InputError

_INTERPOLATIONS = {"bicubic": InterpolationMode.BICUBIC, "bilinear": InterpolationMode.BILINEAR}
_TARGET_PAD = re.compile(r"target-pad-(\d+(?:\.\d+)?)")
_FIXED = ("center-crop", "squash", "letterbox")


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
        resample = _INTERPOLATIONS[self.interpolation]
        square = _GEOMETRY[_family(self.name)](image, self, resample).convert("RGB")
        return F.normalize(F.to_tensor(square), self.mean, self.std)


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
    check_name(name)
    if interpolation not in _INTERPOLATIONS:
        raise InputError(f"unknown interpolation {interpolation!r}: use one of {', '.join(_INTERPOLATIONS)}.")
    return Preprocess(name, size, tuple(mean), tuple(std), interpolation)


def check_name(name: str) -> None:
    """Raise `InputError` unless `name` is a preprocessing."""
    ratio = _TARGET_PAD.fullmatch(name)
    if name not in _FIXED and (ratio is None or float(ratio[1]) < 1):
        raise InputError(
            f"unknown preprocessing {name!r}: use {', '.join(_FIXED)} or target-pad-RATIO with a ratio of at least 1, "
            "as in target-pad-1.25."
        )


def _family(name: str) -> str:
    """The key of `_GEOMETRY`: the name without its ratio."""
    return "target-pad" if name.startswith("target-pad-") else name


def _center_crop(image: Image.Image, spec: Preprocess, resample: InterpolationMode) -> Image.Image:
    """Shorter side to `size`, then the central square (CLIP's own preprocessing)."""
    return F.center_crop(F.resize(image, spec.size, resample), spec.size)


def _target_pad(image: Image.Image, spec: Preprocess, resample: InterpolationMode) -> Image.Image:
    """Black bars on the short sides until the proportion is at most the ratio, then centre crop (CLIP4Cir, SEARLE).

    Bars are cut to whole pixels and equal on both sides, as in the released preprocessing: an odd remainder
    leaves the image one pixel narrower than the ratio asks for.
    """
    ratio = float(spec.name.removeprefix("target-pad-"))
    width, height = image.size
    if max(width, height) / min(width, height) >= ratio:
        wanted = max(width, height) / ratio
        left, top = max(int((wanted - width) / 2), 0), max(int((wanted - height) / 2), 0)
        image = F.pad(image, [left, top, left, top], 0)
    return _center_crop(image, spec, resample)


def _squash(image: Image.Image, spec: Preprocess, resample: InterpolationMode) -> Image.Image:
    """Both sides to `size`."""
    return F.resize(image, [spec.size, spec.size], resample)


def _letterbox(image: Image.Image, spec: Preprocess, resample: InterpolationMode) -> Image.Image:
    """Longer side to `size`, black bars around, the odd pixel right and below (open_clip's "longest")."""
    width, height = image.size
    scale = max(width, height) / spec.size
    inner = [max(1, round(height / scale)), max(1, round(width / scale))]
    across, down = spec.size - inner[1], spec.size - inner[0]
    bars = [across // 2, down // 2, across - across // 2, down - down // 2]
    return F.pad(F.resize(image, inner, resample), bars, 0)


_GEOMETRY: dict[str, Callable[[Image.Image, Preprocess, InterpolationMode], Image.Image]] = {
    "center-crop": _center_crop,
    "target-pad": _target_pad,
    "squash": _squash,
    "letterbox": _letterbox,
}
