"""How large a page is drawn, and how it is written."""

import math
from dataclasses import dataclass, field
from typing import Literal

from PIL import Image

from mmret.data import images
from mmret.errors import InputError
from mmret.pages.failures import PageError

ImageFormat = Literal["png", "jpeg"]
Pixels = tuple[int, int]

POINTS_AN_INCH = 72
DEFAULT_DPI = 150
MAX_PIXELS = 50_000_000
"""The largest page that is drawn by default: 150 MB of RGB, an A0 poster at 150 dpi (35 million) among them."""
_MOST = 1_000_000  # of dots an inch, or of pixels a side: what is more is a slip, or no number
JPEG_SIDE = 65_500
"""The longest side of a JPEG that libjpeg writes, in pixels."""


@dataclass(frozen=True)
class Sizing:
    """The size of a page image by exactly one rule.

    Attributes:
        dpi: Dots an inch of the page; images and HTML keep their own pixels.
        longest_side: Pixels of the longer side, the other in proportion; images are shrunk, never enlarged.
        size: Width and height in pixels, whatever the page's proportions (DSE resizes so).

    Raises:
        InputError: several rules or none; a number that is not between 0 and a million.
    """

    dpi: float | None = None
    longest_side: int | None = None
    size: Pixels | None = None

    def __post_init__(self) -> None:
        given = [rule for rule in (self.dpi, self.longest_side, self.size) if rule is not None]
        if len(given) != 1:
            raise InputError("give one of dpi, longest side and size, not several or none.")
        numbers = (self.dpi, self.longest_side, *(self.size or ()))
        if not all(0 < number < _MOST for number in numbers if number is not None):
            raise InputError(f"a page cannot be drawn at {self}: give more than 0 and less than {_MOST:,}.")

    @classmethod
    def chosen(
        cls, dpi: float | None = None, longest_side: int | None = None, size: Pixels | None = None
    ) -> "Sizing":
        """By the one rule that is given, at `DEFAULT_DPI` where none is; raises `InputError`."""
        if all(rule is None for rule in (dpi, longest_side, size)):
            return cls(DEFAULT_DPI)
        return cls(dpi, longest_side, size)

    def __str__(self) -> str:
        if self.size is not None:
            return f"{self.size[0]}x{self.size[1]} px"
        if self.longest_side is not None:
            return f"longest side {self.longest_side} px"
        return f"{self.dpi:g} dpi"

    def of_page(self, width: float, height: float) -> Pixels:
        """Pixels of a page of so many points; a started pixel counts, as in PDFium and poppler."""
        if self.size is not None:
            return self.size
        longest = max(width, height)
        scale = self.longest_side / longest if self.longest_side else (self.dpi or 0) / POINTS_AN_INCH
        return _started(width * scale), _started(height * scale)

    def of_image(self, width: int, height: int) -> Pixels:
        """Pixels of an image or a screenshot of so many pixels."""
        if self.size is not None:
            return self.size
        if self.longest_side is None or max(width, height) <= self.longest_side:
            return width, height
        return self.of_page(width, height)


def _started(length: float) -> int:
    # Rounded first: 612 pt at 200 dpi are 1700 pixels, however the division comes out.
    return max(1, math.ceil(round(length, 3)))


@dataclass(frozen=True)
class RenderSettings:
    """All that decides what a page's image looks like.

    Attributes:
        renderer: `pypdfium2` or `pdf2image` (poppler), for PDFs.
        sizing: How large.
        format: `png` (lossless) or `jpeg`.
        quality: Of a JPEG, 1 to 95.
        max_pixels: A page with more is refused before it is drawn, and an image file with more before it is decoded; at
            most `mmret.data.images.MAX_PIXELS`, or the page could not be read again.

    Raises:
        InputError: a quality or a limit out of range.
    """

    renderer: str = "pypdfium2"
    sizing: Sizing = field(default_factory=lambda: Sizing(dpi=DEFAULT_DPI))
    format: ImageFormat = "png"
    quality: int = 90
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 95:
            raise InputError(f"a JPEG has a quality from 1 to 95, not {self.quality}.")
        if not 1 <= self.max_pixels <= images.MAX_PIXELS:
            raise InputError(
                f"a page cannot have {self.max_pixels:,} pixels at most: the limit is from 1 to {images.MAX_PIXELS:,}."
            )

    def __str__(self) -> str:
        return f"{self.sizing}, {self.format}" + (f" {self.quality}" if self.format == "jpeg" else "")

    def page_pixels(self, width: float, height: float) -> Pixels:
        """Pixels of a page of so many points; raises `PageError` beyond the limit."""
        return self._drawn(self.sizing.of_page(width, height))

    def image_pixels(self, width: int, height: int) -> Pixels:
        """Pixels that an image or a screenshot of so many gets; raises `PageError` if either are beyond the limit."""
        self._require_few((width, height), "as it is")
        return self._drawn(self.sizing.of_image(width, height))

    def fit(self, image: Image.Image) -> Image.Image:
        """An image or a screenshot at its size here; raises `PageError` beyond the limit."""
        pixels = self.image_pixels(*image.size)
        return image if pixels == image.size else image.resize(pixels, Image.Resampling.LANCZOS)

    def _drawn(self, pixels: Pixels) -> Pixels:
        self._require_few(pixels, f"at {self.sizing}")
        if self.format == "jpeg" and max(pixels) > JPEG_SIDE:
            raise PageError(
                "too large",
                f"{max(pixels):,} pixels on a side, where a JPEG has {JPEG_SIDE:,} at most: make it smaller, or a PNG",
            )
        return pixels

    def _require_few(self, pixels: Pixels, how: str) -> None:
        count = pixels[0] * pixels[1]
        if count > self.max_pixels:
            raise PageError(
                "too large",
                f"{count:,} pixels {how}, where {self.max_pixels:,} are the limit: "
                "make it smaller, or raise the limit",
            )
