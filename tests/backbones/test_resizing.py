import pytest
import torch
from PIL import Image

from mmret.backbones.resizing import PageTransform
from mmret.errors import InputError


def outer(name: str, width: int, height: int) -> tuple[int, int]:
    pixels = PageTransform(name)(Image.new("RGB", (width, height), "red"))
    assert pixels.dtype == torch.uint8
    return pixels.shape[2], pixels.shape[1]


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("native", (123, 45), (123, 45)),
        ("square-28", (123, 45), (28, 28)),
        ("longest-60", (120, 40), (60, 20)),
        ("longest-60", (30, 40), (30, 40)),  # never enlarged
        ("crops-3x2", (50, 50), (1008, 672)),
        ("hd-16", (1000, 1000), (1344, 1344)),  # 4 × 4
        ("hd-16", (2000, 1000), (1680, 1008)),  # 5 along, 840 pixels high, padded to 3 tiles
        ("hd-16", (1000, 2000), (1008, 1680)),
    ],
)
def test_sizes(name: str, size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert outer(name, *size) == expected


@pytest.mark.parametrize("size", [(980, 980), (300, 31), (20, 30), (28, 28), (3000, 2000), (1, 1)])
def test_smart_sizes_are_those_of_transformers(size: tuple[int, int]) -> None:
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    if size == (1, 1):
        assert outer("smart-28-4-1280", 1, 1) == (
            56,
            56,
        )  # as qwen-vl-utils has it; transformers' own rule gives 0
        return
    height, width = smart_resize(size[1], size[0], 28, 4 * 28**2, 1280 * 28**2)
    assert outer("smart-28-4-1280", *size) == (width, height)


def test_bars_are_white_and_equal() -> None:
    pixels = PageTransform("hd-16")(Image.new("RGB", (2000, 1000), "red"))
    assert pixels[1, :84].unique().tolist() == pixels[1, -84:].unique().tolist() == [255]
    assert pixels[1, 84:-84].unique().tolist() == [0]


def test_bad_names_and_pages_are_refused() -> None:
    for name in ("center-crop", "square-0", "smart-28", "crops-4", "hd"):
        with pytest.raises(InputError, match="no resizing"):
            PageTransform(name).sizes(10, 10)
    with pytest.raises(InputError, match="too long and thin"):
        outer("smart-28-4-1280", 5000, 10)


@pytest.mark.parametrize(("name", "region"), [
    ("square-448", (0, 0, 400, 100)),
    ("crops-2x2", (0, 0, 400, 100)),
    ("native", (0, 0, 400, 100)),
    # Four tiles side by side, the page as wide as these and a tile high.
    ("hd-4", (0, 0, 400, 100)),
    # Three side by side: the page is 1008 × 252 on a sheet of 1008 × 336, with 42 of white above and below.
    ("hd-3", (0, -50 / 3, 400, 100 + 50 / 3)),
])  # fmt: skip
def test_the_region_is_the_page_with_its_white_bars(name: str, region: tuple[float, ...]) -> None:
    assert PageTransform(name).region(400, 100) == pytest.approx(region)
