import pickle

import numpy as np
import pytest
import timm.data
import torch
from open_clip.transform import image_transform
from PIL import Image

from mmret.backbones.preprocess import build_transform
from mmret.errors import InputError

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
SIZES = [(100, 40), (33, 90), (64, 64), (31, 17), (225, 223), (5, 300)]


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("ours", "theirs"), [("center-crop", "shortest"), ("squash", "squash"), ("letterbox", "longest")]
)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_equals_open_clip(size, ours, theirs, interpolation):
    image = noise(*size)
    wanted = image_transform(48, False, MEAN, STD, resize_mode=theirs, interpolation=interpolation)(image)
    found = build_transform(ours, 48, MEAN, STD, interpolation)(image)
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fraction", [0.875, 0.9, 0.95, 1.15])
def test_a_crop_fraction_equals_timm(size, fraction):
    image = noise(*size)
    wanted = timm.data.create_transform(
        (3, 48, 48), crop_pct=fraction, mean=MEAN, std=STD, interpolation="bicubic"
    )
    found = build_transform(f"center-crop-{fraction}", 48, MEAN, STD)(image)
    torch.testing.assert_close(found, wanted(image), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "bars"),
    [
        ((100, 40), (0, 20)),  # 100 / 1.25 = 80 rows wanted, 40 missing
        ((40, 100), (20, 0)),
        ((100, 80), (0, 0)),  # the ratio itself: nothing missing
        ((100, 81), (0, 0)),  # within the ratio
        ((37, 100), (21, 0)),  # 80 wanted, 43 missing: 21.5 on each side, cut to 21
        ((101, 50), (0, 15)),  # 80.8 wanted, 30.8 missing: 15.4 on each side, cut to 15
    ],
)
def test_target_pad_is_black_bars_and_a_centre_crop(size, bars):
    image = noise(*size)
    padded = np.pad(np.asarray(image), ((bars[1], bars[1]), (bars[0], bars[0]), (0, 0)))
    wanted = build_transform("center-crop", 32, MEAN, STD)(Image.fromarray(padded))
    assert torch.equal(build_transform("target-pad-1.25", 32, MEAN, STD)(image), wanted)


def test_the_ratio_of_target_pad_counts():
    image = noise(100, 40)
    wide = build_transform("target-pad-2.5", 32, MEAN, STD)(image)
    assert torch.equal(wide, build_transform("center-crop", 32, MEAN, STD)(image))


def test_normalising_a_batch_equals_normalising_each():
    transform = build_transform("center-crop", 24, MEAN, STD)
    images = [noise(40, 30), noise(30, 40)]
    batch = torch.stack([transform.pixels(image) for image in images])
    assert batch.dtype == torch.uint8
    assert torch.equal(transform.normalise(batch), torch.stack([transform(image) for image in images]))
    assert batch.dtype == torch.uint8


def test_values_are_normalised_by_channel():
    white = build_transform("squash", 2, (0.5, 0.25, 0.0), (0.5, 0.25, 2.0))(
        Image.new("RGB", (4, 4), "white")
    )
    assert white[:, 0, 0].tolist() == [1.0, 3.0, 0.5]


def test_a_transform_is_a_value():
    transform = build_transform("target-pad-1.25", 32, MEAN, STD)
    assert pickle.loads(pickle.dumps(transform)) == transform


@pytest.mark.parametrize(
    "name", ["centre-crop", "target-pad", "target-pad-0.5", "squash-2", "center-crop-0", ""]
)
def test_unknown_names_are_refused(name):
    with pytest.raises(InputError, match=r"target-pad-1\.25"):
        build_transform(name, 32, MEAN, STD)


def test_an_unknown_interpolation_is_refused():
    with pytest.raises(InputError, match="bicubic, bilinear"):
        build_transform("squash", 32, MEAN, STD, "cubic")


@pytest.mark.parametrize("name", ["center-crop", "target-pad-1.25"])
def test_an_endless_strip_is_refused_before_it_fills_the_memory(name):
    with pytest.raises(InputError, match="60000 × 1 pixels is too long"):
        build_transform(name, 224, MEAN, STD)(Image.new("RGB", (60_000, 1)))


def ramp(width: int, height: int) -> Image.Image:
    """Red rises from left to right, green from top to bottom; blue is full, where bars are black."""
    across, down = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    pixels = np.stack([across * 255, down * 255, np.full_like(across, 255)], axis=-1)
    return Image.fromarray(pixels.round().astype(np.uint8))


@pytest.mark.parametrize("name", ["squash", "letterbox", "center-crop", "center-crop-0.8", "target-pad-1.25"])
@pytest.mark.parametrize("size", [(300, 200), (120, 400), (250, 250)])
def test_the_region_is_what_the_model_sees(name: str, size: tuple[int, int]) -> None:
    transform = build_transform(name, 64, (0, 0, 0), (1, 1, 1))
    left, top, right, bottom = transform.region(*size)
    red, green, blue = transform.pixels(ramp(*size)).numpy().astype(float)
    steps = (np.arange(64) + 0.5) / 64
    page = blue > 250  # and no bar; next to one, the colours of both are mixed
    seen = page & np.all([np.roll(page, step, axis) for step in (-2, 2) for axis in (0, 1)], axis=0)
    across, down = np.meshgrid(left + steps * (right - left), top + steps * (bottom - top))
    pixel = max(right - left, bottom - top) / 64
    assert seen.sum() > 500
    assert np.abs(red / 255 * size[0] - across)[seen].max() < pixel + size[0] / 255
    assert np.abs(green / 255 * size[1] - down)[seen].max() < pixel + size[1] / 255
