from io import BytesIO

import pytest
from PIL import Image

from mmret.errors import InputError
from mmret.pages.failures import PageError
from mmret.pages.settings import JPEG_SIDE, RenderSettings, Sizing


@pytest.mark.parametrize(
    ("sizing", "page", "pixels"),
    [
        (Sizing(dpi=72), (300, 200), (300, 200)),
        (Sizing(dpi=200), (612, 792), (1700, 2200)),  # 612 · 200/72 is 1700.0000000000002 in floating point
        (Sizing(dpi=100), (595.28, 841.89), (827, 1170)),
        (Sizing(longest_side=980), (300, 200), (980, 654)),
        (Sizing(longest_side=100), (1, 5000), (1, 100)),
        (Sizing(size=(980, 980)), (300, 200), (980, 980)),
    ],
)
def test_a_page_has_its_size_in_pixels(
    sizing: Sizing, page: tuple[float, float], pixels: tuple[int, int]
) -> None:
    assert sizing.of_page(*page) == pixels


def test_images_keep_their_pixels_are_shrunk_and_never_enlarged() -> None:
    image = Image.new("RGB", (300, 200))
    sizes = [Sizing(dpi=300), Sizing(longest_side=600), Sizing(longest_side=150), Sizing(size=(90, 90))]
    fitted = [RenderSettings(sizing=sizing).fit(image).size for sizing in sizes]
    assert fitted == [(300, 200), (300, 200), (150, 100), (90, 90)]


def test_a_page_over_the_limit_is_refused_with_its_pixels() -> None:
    with pytest.raises(PageError, match=r"60,000 pixels at 72 dpi, where 59,999 are the limit") as caught:
        RenderSettings(sizing=Sizing(dpi=72), max_pixels=59_999).page_pixels(300, 200)
    assert caught.value.cause == "too large"


def test_a_side_longer_than_a_jpeg_may_have_is_refused_for_jpegs_alone() -> None:
    sizing = Sizing(size=(JPEG_SIDE + 1, 100))
    assert RenderSettings(sizing=sizing).page_pixels(300, 200) == (65_501, 100)
    with pytest.raises(PageError, match="65,501 pixels on a side, where a JPEG has 65,500 at most") as caught:
        RenderSettings(sizing=sizing, format="jpeg").page_pixels(300, 200)
    assert caught.value.cause == "too large"
    shrunk = RenderSettings(sizing=Sizing(longest_side=980), format="jpeg")
    assert shrunk.image_pixels(JPEG_SIDE + 1, 100)[0] == 980
    Image.new("L", (JPEG_SIDE, 1)).save(BytesIO(), "jpeg")
    with pytest.raises(OSError, match=r"encoder|broken"):
        Image.new("L", (JPEG_SIDE + 1, 1)).save(BytesIO(), "jpeg")


def test_the_size_is_given_by_one_rule() -> None:
    for rules in [{}, {"dpi": 72, "longest_side": 9}, {"dpi": 0}, {"size": (0, 4)}]:
        with pytest.raises(InputError):
            Sizing(**rules)  # type: ignore[arg-type]


def test_without_a_rule_pages_are_drawn_at_150_dpi() -> None:
    assert Sizing.chosen() == Sizing(dpi=150)
    assert Sizing.chosen(longest_side=980) == Sizing(longest_side=980)
    assert Sizing.chosen(size=(9, 9)) == Sizing(size=(9, 9))
    with pytest.raises(InputError, match="0 dpi"):
        Sizing.chosen(dpi=0)
