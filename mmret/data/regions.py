"""Parts of images as images of their own: everything outside of given boxes is black."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from mmret.data.images import ImageSource

Boxes = Sequence[tuple[float, float, float, float]]
"""(left, top, right, bottom) in pixels, both corners inside; none of them: the whole image."""


@dataclass(frozen=True)
class RegionImages:
    """An `ImageSource` of parts: region id → (id of its image, boxes)."""

    images: ImageSource
    regions: Mapping[str, tuple[str, Boxes]]

    @property
    def ids(self) -> Sequence[str]:
        """The region ids, in order."""
        return tuple(self.regions)

    def read(self, id: str) -> Image.Image:
        """The image, RGB, black outside of the boxes; raises `InputError` if the image cannot be read."""
        name, boxes = self.regions[id]
        return black_outside(self.images.read(name), boxes)

    def stamp(self, id: str) -> str:
        """The image's stamp and the boxes."""
        name, boxes = self.regions[id]
        return f"{self.images.stamp(name)} {list(boxes)}"


def black_outside(image: Image.Image, boxes: Boxes) -> Image.Image:
    """The image where any box covers it, and black elsewhere; the same size."""
    if not boxes:
        return image
    mask = Image.new("L", image.size, 0)
    for box in boxes:
        ImageDraw.Draw(mask).rectangle(box, fill=255)
    black = Image.new("RGB", image.size, "black")
    black.paste(image, mask=mask)
    return black
