"""A picture of the miniature world for people: queries with their reference, edit and targets."""

import textwrap

from PIL import Image, ImageDraw, ImageFont

from mmret.data.miniature.world import miniature_benchmark

_SIDE, _GAP, _LINE = 128, 8, 15
_CELL = (3 * _SIDE + 4 * _GAP, _SIDE + 3 * _LINE + 2 * _GAP)


def sample_sheet(columns: int = 2, rows: int = 6, step: int = 197) -> Image.Image:
    """Test queries as a sheet, RGB: the reference, the edit in words, and up to two targets (outlined).

    Takes every `step`-th query, so the kinds of edits mix.
    """
    benchmark = miniature_benchmark("test")
    sheet = Image.new("RGB", (columns * _CELL[0], rows * _CELL[1]), "white")
    for place in range(columns * rows):
        query = benchmark.queries[place * step % len(benchmark.queries)]
        pictures = [benchmark.images.read(name) for name in (str(query.reference), *list(query.targets)[:2])]
        left, top = place % columns * _CELL[0], place // columns * _CELL[1]
        _draw_query(sheet, (left + _GAP, top + _GAP), pictures, query.texts[0])
    return sheet


def _draw_query(sheet: Image.Image, corner: tuple[int, int], pictures: list[Image.Image], text: str) -> None:
    draw = ImageDraw.Draw(sheet)
    left, top = corner
    for place, picture in enumerate(pictures):
        x = left + place * (_SIDE + _GAP)
        sheet.paste(picture.resize((_SIDE, _SIDE), Image.Resampling.NEAREST), (x, top))
        outline = (60, 60, 60) if place == 0 else (20, 150, 60)
        draw.rectangle((x - 2, top - 2, x + _SIDE + 1, top + _SIDE + 1), outline=outline, width=2)
    font = ImageFont.load_default(size=13)
    for row, line in enumerate(textwrap.wrap(f"“{text}”", 58)[:3]):
        draw.text((left, top + _SIDE + 4 + row * _LINE), line, fill=(20, 20, 20), font=font)
