"""What a search of a folder found, as a line, as a gallery, and in a notebook."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from PIL import Image

from mmret.data.images import ImageSource
from mmret.display import THUMBNAIL_SIDE, Gallery, make_example


@dataclass(frozen=True, repr=False)
class SearchResult:
    """The best images of a search: `hits` are (id, score), best first."""

    images: ImageSource
    text: str
    image: Image.Image | None
    hits: tuple[tuple[str, float], ...]

    noun: ClassVar[str] = "images"
    layout: ClassVar[Literal["images", "pages"]] = "images"
    side: ClassVar[int] = THUMBNAIL_SIDE

    def __repr__(self) -> str:
        """One line: the best image and how many there are."""
        parts = ["an image"] * (self.image is not None) + [repr(self.text)] * bool(self.text)
        query = " + ".join(parts)
        best = ", ".join(f"{name} {score:.3f}" for name, score in self.hits[:1])
        return f"{type(self).__name__}({query}: {best}, {len(self.hits)} {self.noun})"

    def caption(self, id: str) -> str:
        """What stands below a hit in the gallery, beside its rank."""
        return ""

    @property
    def gallery(self) -> Gallery:
        """The query and its images, for a notebook or a page (`.save`)."""
        return self._gallery_of(self.images)

    def _gallery_of(self, images: ImageSource) -> Gallery:
        example = make_example(
            images,
            {"best first": self.hits},
            query_id="",
            text=self.text,
            reference=self.image,
            depth=len(self.hits),
            side=self.side,
            caption=self.caption,
        )
        return Gallery("Search", (example,), self.layout)

    def _repr_html_(self) -> str:
        return self.gallery._repr_html_()
