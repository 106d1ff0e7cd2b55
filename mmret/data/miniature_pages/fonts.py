"""The fonts of generated pages: those that come with matplotlib, so that no system font is needed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from PIL import ImageFont

FONTS: Final = {
    "sans": "DejaVuSans.ttf",
    "sans bold": "DejaVuSans-Bold.ttf",
    "serif": "DejaVuSerif.ttf",
    "serif bold": "DejaVuSerif-Bold.ttf",
}
"""Name → file."""


@cache
def font(name: str, pixels: int) -> ImageFont.FreeTypeFont:
    """The font of a name at a height in pixels."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", FONTS[name]), pixels)


def width(text: str, name: str, size: int) -> float:
    """How wide a text is, in units, at a size in units."""
    return font(name, size).getlength(text)
