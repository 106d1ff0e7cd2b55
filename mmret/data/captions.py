"""Captions and captioned images: what the training methods read.

A caption is text and nothing else: HTML, entities and the sign that a method uses as its placeholder all stay
as they stand (pseudo-words are placed by position, see `mmret.backbones.prompt`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mmret.data import records
from mmret.data.images import ImageSource
from mmret.errors import InputError


@dataclass(frozen=True)
class ImageCaptions:
    """The captions of one image, the split that it belongs to, and a name that it shares with its like."""

    image: str
    texts: tuple[str, ...]
    split: str
    group: str = ""


class Captions:
    """A map-style dataset of captions, text only."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = tuple(texts)
        for index, text in enumerate(self._texts):
            _refuse_empty(text, f"Caption {index}")

    @classmethod
    def read(cls, path: str | Path) -> "Captions":
        """Read a `.txt` (a caption a line), a `.json` list of strings, or records with captions.

        Records (`.jsonl`, or a `.json` list of objects) carry `caption` or `captions`. Blank lines of a
        `.txt` are skipped; an empty caption elsewhere raises InputError.
        """
        path = Path(path)
        if path.suffix == ".txt":
            return cls(line.strip() for line in records.read_text(path).split("\n") if line.strip())
        if path.suffix != ".jsonl":
            values = records.read_json(path)
            if isinstance(values, list) and all(isinstance(value, str) for value in values):
                return cls(values)
        return cls(text for where, record in records.read_records(path) for text in _texts(record, where))

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, index: int) -> str:
        return self._texts[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __repr__(self) -> str:
        return f"Captions({len(self):,} texts)"


class CaptionedImages:
    """A map-style dataset of (PIL image, caption): one item a caption, so an image with two comes twice.

    `groups` gives each item's: the same for the first captions of all images of one group, another for their
    second ones, and so on.
    """

    def __init__(self, images: ImageSource, captions: Iterable[ImageCaptions]) -> None:
        self.images = images
        captions = tuple(captions)
        self.pairs = tuple((item.image, text) for item in captions for text in item.texts)
        # Never an image twice in one group: its other captions are no negatives of it.
        self.groups = tuple(
            (item.group or item.image, place) for item in captions for place in range(len(item.texts))
        )
        unknown = {image for image, _ in self.pairs} - set(images.ids)
        if unknown:
            raise InputError(
                f"{len(unknown):,} captioned images are not among the images, the first {min(unknown)!r}."
            )

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Image.Image, str]:
        image, text = self.pairs[index]
        return self.images.read(image), text

    @property
    def texts(self) -> list[str]:
        """The caption of every item; no image is read."""
        return [text for _, text in self.pairs]

    @property
    def owners(self) -> list[str]:
        """The image id of every item."""
        return [image for image, _ in self.pairs]

    def __repr__(self) -> str:
        return f"CaptionedImages({len({image for image, _ in self.pairs}):,} images, {len(self):,} captions)"


def read_captions(path: str | Path) -> list[ImageCaptions]:
    """Read `{"image", "caption" or "captions", "split"}` records, with an optional "group".

    Raises:
        InputError: A missing key, an empty caption or an image listed twice, with its file and line.
    """
    first: dict[str, str] = {}
    captions = []
    for where, record in records.read_records(path):
        image = records.field(record, "image", str, where)
        if image in first:
            raise InputError(f"{where} lists image {image!r}, which {first[image]} lists already.")
        first[image] = where
        split = records.field(record, "split", str, where)
        group = records.field({"group": "", **record}, "group", str, where)
        captions.append(ImageCaptions(image, _texts(record, where), split, group))
    return captions


def _texts(record: records.Record, where: str) -> tuple[str, ...]:
    key = "captions" if "captions" in record else "caption"
    records.field(record, key, object, where)
    texts = records.strings(record[key], key, where)
    for text in texts or ("",):
        _refuse_empty(text, f"{where}: {key!r}")
    return texts


def _refuse_empty(text: str, what: str) -> None:
    if not text.strip():
        raise InputError(f"{what} is empty; write a caption or leave the record out.")
