"""Images by id: what the encoders read from."""

from collections.abc import Sequence
from typing import Protocol

from PIL import Image


class ImageSource(Protocol):
    """A gallery: something that reads an image by its id."""

    @property
    def ids(self) -> Sequence[str]:
        """All ids, unique, in a fixed order."""
        ...

    def read(self, id: str) -> Image.Image:
        """Return the image, RGB; raises `InputError` that names the image and the cause."""
        ...

    def stamp(self, id: str) -> str:
        """Return a short text that changes when the image changes (cheap: no decoding)."""
        ...
