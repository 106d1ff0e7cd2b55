import numpy as np
import pytest

from mmret.data.miniature.draw import RGB
from mmret.data.miniature_pages.draw import draw_page
from mmret.data.miniature_pages.page import (
    CHARTS,
    COLOURS,
    SHAPES,
    Block,
    Chart,
    Content,
    Icon,
    Page,
    Paragraph,
    Style,
)

STYLE = Style("sans", 9)
WHITE = (255, 255, 255)


def page(place: str, content: Content, title: tuple[str, ...] = ()) -> Page:
    return Page(128, title, STYLE, (Block(place, content),), WHITE)


def coloured(drawn: Page, colour: str) -> np.ndarray:
    """Where a page has exactly that colour, bool [128, 128]."""
    return (np.asarray(draw_page(drawn)) == RGB[colour]).all(axis=-1)


def test_a_page_is_drawn_at_its_side_times_the_scale() -> None:
    empty = Page(128, (), STYLE, (), WHITE)
    assert draw_page(empty).size == (128, 128)
    assert draw_page(empty, 3).size == (384, 384)
    assert np.asarray(draw_page(empty)).min() == 255


def test_an_icon_stands_where_its_place_says() -> None:
    found = coloured(page("bottom right", Icon("square", "red")), "red")
    rows, columns = np.nonzero(found)
    assert rows.min() > 64 and columns.min() > 64


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_differ(shape: str) -> None:
    mine = coloured(page("top left", Icon(shape, "blue")), "blue")
    others = [coloured(page("top left", Icon(other, "blue")), "blue") for other in SHAPES if other != shape]
    assert mine.sum() > 100
    assert min((mine != other).sum() for other in others) > 30


@pytest.mark.parametrize("kind", CHARTS)
@pytest.mark.parametrize("colour", COLOURS)
def test_a_chart_has_its_colour_and_its_label(kind: str, colour: str) -> None:
    chart = page("top", Chart(kind, colour, "zebra", (0.4, 0.9, 0.6, 0.7), STYLE))
    assert coloured(chart, colour).sum() > 30
    assert not any(coloured(chart, other).any() for other in COLOURS if other != colour)
    unlabelled = page("top", Chart(kind, colour, "", (0.4, 0.9, 0.6, 0.7), STYLE))
    assert draw_page(chart) != draw_page(unlabelled)


def test_words_are_drawn() -> None:
    one, other = (
        draw_page(page("top left", Paragraph(((word,),), STYLE), title=("harbour",)))
        for word in ("violin", "wagon")
    )
    assert np.asarray(one).min() < 80
    assert one != other
    assert one.crop((0, 0, 128, 16)).tobytes() == other.crop((0, 0, 128, 16)).tobytes()
