"""Images to train on, without captions, by one text that says where they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mmret.data.images import FolderImages, ImageSource
from mmret.errors import InputError

_FOLDER = "folder:"


@dataclass(frozen=True)
class SomeImages:
    """A part of a source's images; an `ImageSource`."""

    images: ImageSource
    ids: Sequence[str]

    def read(self, id: str) -> Image.Image:
        """The source's image, RGB; raises `InputError`."""
        return self.images.read(id)

    def stamp(self, id: str) -> str:
        """The source's stamp; raises `InputError`."""
        return self.images.stamp(id)


def open_training_images(source: str, count: int | None = None) -> ImageSource:
    """The images of `miniature` (`count` of them are drawn) or of `folder:PATH`.

    A folder with a `captions.jsonl` gives the images of its train split, any other all images under it. `count`
    keeps the first so many of a folder's.

    Raises:
        InputError: for another source, a folder without images, or more images asked for than there are.
    """
    if source == "miniature":
        from mmret.data.miniature import training_images

        if count is None:
            raise InputError("the miniature world draws as many images as you ask for; say how many.")
        return training_images(count)
    if not source.startswith(_FOLDER):
        raise InputError(f"source is {source!r}; images come from 'miniature' or 'folder:PATH'.")
    images = _folder_images(Path(source.removeprefix(_FOLDER)))
    if count is not None and count > len(images.ids):
        raise InputError(f"{source} has {len(images.ids):,} images to train on, not the {count:,} asked for.")
    return images if count is None else SomeImages(images, images.ids[:count])


def _folder_images(root: Path) -> ImageSource:
    if not (root / "captions.jsonl").is_file():
        return FolderImages(root)
    from mmret.data.annotated_folder import describe_folder, split_captions

    images = FolderImages(describe_folder(root).images)
    captioned = [item.image for item in split_captions(root)]
    unknown = sorted(set(captioned) - set(images.ids))
    if unknown:
        raise InputError(
            f"{len(unknown):,} captioned images are not under {images.root}, first {unknown[0]!r}."
        )
    return SomeImages(images, captioned)
