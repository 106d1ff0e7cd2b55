"""What a generated page is: a title and blocks, and the facts about it that a question may ask for.

A page is a frozen value, drawn when it is read. A question is a set of facts, and a page answers it exactly when it has
all of them: that makes the ground truth of the benchmark complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import ClassVar, Final

Fact = tuple[str, ...]
"""What may be asked of a page: a kind, then its values, such as ("title", "harbour") or ("icon", "red", "star")."""

WORDS: Final = tuple(Path(__file__).with_name("words.txt").read_text(encoding="utf-8").split())
"""The lexicon: nouns, none of which means a colour, a shape or a part of a page."""

FILLERS: Final = ("the", "of", "and", "in", "with", "for")
"""Words that stand between others in paragraphs and that nobody asks for."""

COLOURS: Final = ("red", "orange", "green", "blue", "purple", "brown")
SHAPES: Final = ("square", "triangle", "star", "heart", "diamond", "cross", "circle", "ring")
CHARTS: Final = ("bar", "line", "pie")

PLACES: Final = {
    "whole": (),
    "top": ("top",),
    "bottom": ("bottom",),
    "top left": ("top left", "top", "left"),
    "top right": ("top right", "top", "right"),
    "bottom left": ("bottom left", "bottom", "left"),
    "bottom right": ("bottom right", "bottom", "right"),
}
"""Where a block stands, and every way to say so."""


@dataclass(frozen=True)
class Style:
    """How text is set: a font by name, its size in units (pixels of a page that is not enlarged)."""

    font: str
    size: int


@dataclass(frozen=True)
class Paragraph:
    """Lines of words, fillers among them."""

    lines: tuple[tuple[str, ...], ...]
    style: Style

    @property
    def words(self) -> Iterator[str]:
        """The words in reading order, without fillers."""
        return (word for word in chain.from_iterable(self.lines) if word not in FILLERS)

    @property
    def text(self) -> str:
        """What a text layer holds."""
        return "\n".join(" ".join(line) for line in self.lines)


@dataclass(frozen=True)
class Table:
    """Rows of cells, words and numbers in turn."""

    rows: tuple[tuple[str, ...], ...]
    style: Style

    @property
    def words(self) -> Iterator[str]:
        """The words of its cells, by row."""
        return (cell for cell in chain.from_iterable(self.rows) if not cell.isdigit())

    @property
    def text(self) -> str:
        """What a text layer holds."""
        return "\n".join(" ".join(row) for row in self.rows)


@dataclass(frozen=True)
class Chart:
    """A drawing of numbers (0 … 1) in a colour, under a label."""

    kind: str
    colour: str
    label: str
    values: tuple[float, ...]
    style: Style

    @property
    def words(self) -> Iterator[str]:
        """Its label."""
        return iter((self.label,))

    @property
    def text(self) -> str:
        """What a text layer holds."""
        return self.label


@dataclass(frozen=True)
class Icon:
    """A shape in a colour; without words."""

    shape: str
    colour: str

    words: ClassVar[tuple[str, ...]] = ()
    text: ClassVar[str] = ""


Content = Paragraph | Table | Chart | Icon
_ROLES: Final[dict[type, str]] = {Paragraph: "paragraph", Table: "table", Chart: "chart label"}


@dataclass(frozen=True)
class Block:
    """Something at a place of `PLACES`."""

    place: str
    content: Content

    @property
    def facts(self) -> Iterator[Fact]:
        """What can be asked of it: its words, their role and place; of pictures their kind, colour and place."""
        places = PLACES[self.place]
        for word in self.content.words:
            yield "word", word
            yield _ROLES[type(self.content)], word
            yield from (("at", place, word) for place in places)
        if isinstance(self.content, Chart):
            yield "chart", self.content.colour, self.content.kind
            yield from (("chart at", place, self.content.colour, self.content.kind) for place in places)
        if isinstance(self.content, Icon):
            yield "icon", self.content.colour, self.content.shape
            yield from (("icon at", place, self.content.colour, self.content.shape) for place in places)

    @property
    def alternative_text(self) -> str:
        """What somebody who sees it would write for those who do not; empty where its text says all."""
        if isinstance(self.content, Chart):
            return f"{self.content.colour} {self.content.kind} chart"
        return f"{self.content.colour} {self.content.shape}" if isinstance(self.content, Icon) else ""


@dataclass(frozen=True)
class Page:
    """A page of `side` × `side` units: a title (which may be empty) over blocks, on tinted paper.

    `origin` is how many units everything begins further to the right, and further down.
    """

    side: int
    title: tuple[str, ...]
    title_style: Style
    blocks: tuple[Block, ...]
    paper: tuple[int, int, int]
    origin: tuple[int, int] = (0, 0)

    @cached_property
    def facts(self) -> frozenset[Fact]:
        """All that can be asked of the page."""
        title = chain.from_iterable((("word", word), ("title", word)) for word in self.title)
        return frozenset(chain(title, chain.from_iterable(block.facts for block in self.blocks)))

    @property
    def text(self) -> str:
        """The text layer in reading order: no pictures, no places."""
        parts = [" ".join(self.title), *(block.content.text for block in self.blocks)]
        return "\n".join(part for part in parts if part)

    @property
    def text_with_pictures(self) -> str:
        """The text layer, and alternative texts for the pictures, as a careful author would add them."""
        extra = (block.alternative_text for block in self.blocks)
        return "\n".join([self.text, *(text for text in extra if text)])
