"""Draws generated pages with Pillow; a pure function of a page and a scale."""

from __future__ import annotations

from typing import Final

from PIL import Image, ImageDraw

from mmret.data.miniature.draw import POLYGONS, RGB
from mmret.data.miniature_pages.fonts import font
from mmret.data.miniature_pages.page import Block, Chart, Content, Icon, Page, Paragraph, Style, Table
from mmret.data.miniature_pages.sample import (
    MARGIN,
    ROW_HEIGHT,
    TITLE_HEIGHT,
    Box,
    box_of,
    line_height,
)

INK: Final = (25, 25, 30)
RULES: Final = (150, 150, 155)
PALE: Final = (205, 205, 210)
#: Shapes are drawn larger and reduced, which smooths their edges.
SMOOTHING: Final = 2


def draw_page(page: Page, scale: int = 1) -> Image.Image:
    """The page as RGB, `page.side` × `scale` pixels square."""
    image = Image.new("RGB", (page.side * scale, page.side * scale), page.paper)
    pen = _Pen(image, scale)
    if page.title:
        left, top = MARGIN + page.origin[0], page.origin[1]
        pen.write((left, top + 1), " ".join(page.title), page.title_style)
        rule = top + TITLE_HEIGHT - 1
        pen.line([(left, rule), (page.side - MARGIN, rule)], RULES)
    for block in page.blocks:
        _draw_block(pen, block, box_of(block.place, page.side, bool(page.title), page.origin))
    return image


class _Pen:
    """Pillow's drawing in units."""

    def __init__(self, image: Image.Image, scale: int) -> None:
        self.image, self.scale = image, scale
        self.draw = ImageDraw.Draw(image)

    def write(self, at: tuple[float, float], text: str, style: Style) -> None:
        face = font(style.font, style.size * self.scale)
        self.draw.text(self._point(at), text, fill=INK, font=face, anchor="la")

    def line(self, points: list[tuple[float, float]], colour: tuple[int, int, int], width: float = 1) -> None:
        self.draw.line([self._point(point) for point in points], colour, max(1, round(width * self.scale)))

    def rectangle(self, box: Box, colour: tuple[int, int, int]) -> None:
        corners = [self._point((box.left, box.top)), self._point((box.right, box.bottom))]
        self.draw.rectangle(corners, fill=colour)

    def slice(self, box: Box, start: float, end: float, colour: tuple[int, int, int]) -> None:
        corners = [self._point((box.left, box.top)), self._point((box.right, box.bottom))]
        self.draw.pieslice(corners, start, end, fill=colour)

    def stamp(self, mask: Image.Image, centre: tuple[float, float], colour: tuple[int, int, int]) -> None:
        x, y = self._point(centre)
        self.image.paste(colour, (x - mask.width // 2, y - mask.height // 2), mask)

    def _point(self, at: tuple[float, float]) -> tuple[int, int]:
        return round(at[0] * self.scale), round(at[1] * self.scale)


def _draw_block(pen: _Pen, block: Block, box: Box) -> None:
    content: Content = block.content
    match content:
        case Paragraph():
            for number, line in enumerate(content.lines):
                pen.write(
                    (box.left, box.top + number * line_height(content.style)), " ".join(line), content.style
                )
        case Table():
            _draw_table(pen, content, box)
        case Chart():
            _draw_chart(pen, content, box)
        case Icon():
            radius = min(box.width, box.height) * 0.34
            mask = _shape(content.shape, round(radius * pen.scale))
            pen.stamp(mask, ((box.left + box.right) / 2, (box.top + box.bottom) / 2), RGB[content.colour])


def _draw_table(pen: _Pen, table: Table, box: Box) -> None:
    """Ruled rows; a word takes three fifths of its pair of cells, with a number behind it."""
    height = ROW_HEIGHT
    pair = box.width / (len(table.rows[0]) / 2)
    for number, row in enumerate(table.rows):
        y = box.top + number * height
        for place, cell in enumerate(row):
            x = box.left + pair * (place // 2) + (pair * 0.74 if place % 2 else 1)
            pen.write((x, y + 1), cell, table.style)
        pen.line([(box.left, y), (box.right, y)], RULES)
    bottom = box.top + len(table.rows) * height
    pen.line([(box.left, bottom), (box.right, bottom)], RULES)
    pen.line([(box.left, box.top), (box.left, bottom)], RULES)
    pen.line([(box.right, box.top), (box.right, bottom)], RULES)


def _draw_chart(pen: _Pen, chart: Chart, box: Box) -> None:
    pen.write((box.left, box.top), chart.label, chart.style)
    area = Box(box.left + 2, box.top + line_height(chart.style) + 2, box.right - 2, box.bottom - 2)
    colour = RGB[chart.colour]
    if chart.kind == "pie":
        _draw_pie(pen, chart, area)
        return
    pen.line([(area.left, area.top), (area.left, area.bottom), (area.right, area.bottom)], INK)
    step = area.width / len(chart.values)
    tops = [area.bottom - value * (area.height - 2) for value in chart.values]
    if chart.kind == "line":
        points = [(area.left + (number + 0.5) * step, top) for number, top in enumerate(tops)]
        pen.line(points, colour, 2)
        return
    for number, top in enumerate(tops):
        left = area.left + number * step
        pen.rectangle(Box(left + step * 0.2, top, left + step * 0.8, area.bottom - 1), colour)


def _draw_pie(pen: _Pen, chart: Chart, area: Box) -> None:
    """A pale disc with the chart's colour on every second slice."""
    side = min(area.width, area.height)
    left, top = (area.left + area.right - side) / 2, area.top
    disc, start, total = Box(left, top, left + side, top + side), -90.0, sum(chart.values)
    for number, value in enumerate(chart.values):
        end = start + 360 * value / total
        pen.slice(disc, start, end, PALE if number % 2 else RGB[chart.colour])
        start = end


def _shape(name: str, radius: int) -> Image.Image:
    """A shape as a mask, smoothed."""
    side = 2 * radius * SMOOTHING
    mask = Image.new("L", (side, side))
    pen, middle = ImageDraw.Draw(mask), side / 2
    if name in ("circle", "ring"):
        pen.ellipse((0, 0, side - 1, side - 1), fill=255)
        if name == "ring":
            inner = round(side * 0.27)
            pen.ellipse((inner, inner, side - inner, side - inner), fill=0)
    else:
        pen.polygon(
            [(middle + x * middle * 0.9, middle + y * middle * 0.9) for x, y in POLYGONS[name]], fill=255
        )
    return mask.resize((2 * radius, 2 * radius), Image.Resampling.BOX)
