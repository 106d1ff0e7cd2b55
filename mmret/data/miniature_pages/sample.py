"""How generated pages come about: layouts, and contents that fit into them.

A curriculum leads to them, since reading comes first and is slow to come from whole pages:

| stage | a page |
|---|---|
| `layer` | no picture: the text layer of a whole page, from which the query encoder learns what words are |
| `word` | small (64 × 64 units), one word on it |
| `words` | small, one to four words, each on a line of its own |
| `block` | small, a paragraph or a table, with or without a title |
| `text` | whole (128 × 128): a title over paragraphs, tables, charts and icons, asked for by words alone |
| `page` | the same, asked for anything |
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from mmret.data.miniature_pages.fonts import width
from mmret.data.miniature_pages.page import (
    CHARTS,
    COLOURS,
    FILLERS,
    SHAPES,
    WORDS,
    Block,
    Chart,
    Content,
    Icon,
    Page,
    Paragraph,
    Style,
    Table,
)

Stage = Literal["layer", "word", "words", "block", "text", "page"]
SINGLE_WORDS: Final = {"word": 1, "words": 4}
"""Stages of single words → the most of them on a page."""

SIDE: Final = 128
"""Units (pixels) of a page's side."""
SMALL_SIDE: Final = 64
"""Units of a small page's side."""

MOST_RIGHT, MOST_DOWN = 10, 31
"""Units by which small pages begin elsewhere, at most."""

MARGIN: Final = 3
TITLE_HEIGHT: Final = 20
LAYOUTS: Final = (
    ("top left", "top right", "bottom left", "bottom right"),
    ("top", "bottom left", "bottom right"),
    ("top left", "top right", "bottom"),
)
PAPERS: Final = ((255, 255, 255), (252, 248, 235), (240, 244, 250), (245, 245, 245))
BODY_FONTS: Final = ("sans", "serif")
BODY_SIZES: Final = (10, 11, 12)
TITLE_FONTS: Final = ("sans bold", "serif bold")
TITLE_SIZE, SMALL_TITLE_SIZE = 14, 12
SMALLEST: Final = 10
"""Units of the print in tables and over charts."""
ROW_HEIGHT: Final = 13
"""Units of a table's row."""
#: Of the blocks beside the first paragraph. No more than one table and one chart a page.
KINDS: Final = {"paragraph": 0.2, "table": 0.2, "chart": 0.25, "icon": 0.35}
FILLED: Final = 0.2
"""The share of a paragraph's words behind which a filler stands."""


class Box(NamedTuple):
    """A rectangle in units."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Units across."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Units down."""
        return self.bottom - self.top


def box_of(place: str, side: int, titled: bool, origin: tuple[int, int] = (0, 0)) -> Box:
    """Where a block at a place of `PLACES` is drawn on a page."""
    top = float((TITLE_HEIGHT if titled else MARGIN) + origin[1])
    end = side - MARGIN
    middle_x, middle_y = side / 2, (top + end) / 2
    left = middle_x + 1 if "right" in place else MARGIN + origin[0]
    right = middle_x - 1 if "left" in place else end
    upper = middle_y + 1 if "bottom" in place else top
    lower = middle_y - 1 if "top" in place else end
    return Box(left, upper, right, lower)


def sample_page(rng: random.Random, stage: Stage = "page") -> Page:
    """A page at random, of a stage of the curriculum; `page` is a whole one."""
    if stage in SINGLE_WORDS:
        return _words_page(rng, SINGLE_WORDS[stage])
    words = iter(rng.sample(WORDS, len(WORDS)))
    small = stage == "block"
    side = SMALL_SIDE if small else SIDE
    titled = not small or rng.random() < 0.4
    style = Style(rng.choice(TITLE_FONTS), SMALL_TITLE_SIZE if small else TITLE_SIZE)
    origin = _origin(rng) if small else (0, 0)
    title = _title(words, style, side - 2 * MARGIN - origin[0], rng) if titled else ()
    places = ("whole",) if small else rng.choice(LAYOUTS)
    kinds = [rng.choice(("paragraph", "paragraph", "table"))] if small else _kinds(places, rng)
    blocks = [
        Block(place, _content(kind, box_of(place, side, titled, origin), words, rng))
        for place, kind in zip(places, kinds, strict=True)
    ]
    return Page(side, title, style, tuple(blocks), rng.choice(PAPERS), origin)


def _words_page(rng: random.Random, most: int) -> Page:
    """A small page with one to `most` words, each on a line of its own."""
    style, origin = _style(rng), _origin(rng)
    room = box_of("whole", SMALL_SIDE, False, origin).height
    lines: list[tuple[str, ...]] = [()] * int(room // line_height(style))
    words = rng.sample(WORDS, rng.randint(1, min(most, len(lines))))
    for place, word in zip(rng.sample(range(len(lines)), len(words)), words, strict=True):
        lines[place] = (word,)
    block = Block("whole", Paragraph(tuple(lines), style))
    return Page(SMALL_SIDE, (), style, (block,), rng.choice(PAPERS), origin)


def _origin(rng: random.Random) -> tuple[int, int]:
    """Where a small page begins: anywhere on the grid of a convolutional tower's strides.

    Without it words would be learnt where they happen to stand, and whole pages have them elsewhere.
    """
    return rng.randint(0, MOST_RIGHT), rng.randint(0, MOST_DOWN)


def line_height(style: Style) -> int:
    """Units from one line to the next."""
    return style.size + 2


def _kinds(places: tuple[str, ...], rng: random.Random) -> list[str]:
    """What stands in each place: one paragraph at least, icons in quarters only."""
    first = rng.randrange(len(places))
    kinds: list[str] = []
    for number, place in enumerate(places):
        odds = dict(KINDS)
        for single in {"table", "chart"} & set(kinds):
            del odds[single]
        if " " not in place:
            del odds["icon"]
        kinds.append("paragraph" if number == first else rng.choices([*odds], [*odds.values()])[0])
    return kinds


def _title(words: Iterator[str], style: Style, room: float, rng: random.Random) -> tuple[str, ...]:
    """One to three words that fit on a line."""
    title: tuple[str, ...] = (next(words),)
    for word in (next(words) for _ in range(rng.choice((0, 1, 1, 2)))):
        if width(" ".join([*title, word]), style.font, style.size) <= room:
            title = (*title, word)
    return title


def _content(kind: str, box: Box, words: Iterator[str], rng: random.Random) -> Content:
    style = _style(rng)
    match kind:
        case "paragraph":
            return Paragraph(_lines(box, style, words, rng), style)
        case "table":
            return Table(_rows(box, words, rng), Style(style.font, SMALLEST))
        case "chart":
            values = tuple(round(rng.uniform(0.2, 1), 2) for _ in range(rng.choice((4, 5))))
            label = next(words)
            return Chart(rng.choice(CHARTS), rng.choice(COLOURS), label, values, Style(style.font, SMALLEST))
        case _:
            return Icon(rng.choice(SHAPES), rng.choice(COLOURS))


def _style(rng: random.Random) -> Style:
    return Style(rng.choice(BODY_FONTS), rng.choice(BODY_SIZES))


def _lines(box: Box, style: Style, words: Iterator[str], rng: random.Random) -> tuple[tuple[str, ...], ...]:
    """Lines filled with words until the box, or a number of lines, is full."""
    most = max(1, int(box.height // line_height(style)))
    count = rng.randint((most + 1) // 2, most)
    lines: list[list[str]] = [[]]
    while True:
        word = next(words)
        if width(" ".join([*lines[-1], word]), style.font, style.size) > box.width and lines[-1]:
            if len(lines) == count:
                return tuple(tuple(line) for line in lines)
            lines.append([])
        lines[-1].append(word)
        filler = rng.choice(FILLERS)
        fits = width(" ".join([*lines[-1], filler]), style.font, style.size) <= box.width
        if fits and rng.random() < FILLED:
            lines[-1].append(filler)


def _rows(box: Box, words: Iterator[str], rng: random.Random) -> tuple[tuple[str, ...], ...]:
    """Two or four columns, words and two digits in turn."""
    pairs, most = 2 if box.width > SMALL_SIDE else 1, int(box.height // ROW_HEIGHT)
    return tuple(
        tuple(cell for _ in range(pairs) for cell in (next(words), str(rng.randint(10, 99))))
        for _ in range(rng.randint(1 if most < 2 else 2, min(4, max(1, most))))
    )
