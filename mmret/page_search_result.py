"""The pages that a search found: by file and number, as a gallery, and with the parts that answered."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from PIL import Image, ImageDraw

from mmret.backbones.base import Backbone
from mmret.data.images import ImageSource
from mmret.display import PAGE_SIDE, Gallery
from mmret.errors import InputError
from mmret.pages.documents import split_page_id
from mmret.search_result import SearchResult
from mmret.similarity_maps import SimilarityMap, similarity_map


@dataclass(frozen=True)
class PageHit:
    """A page that was found: rank from 1, score, file below the folder, page from 0."""

    rank: int
    score: float
    file: str
    page: int

    @property
    def place(self) -> str:
        """The page for people, who count from 1, and as ids have it: `handbook.pdf  page 4 (#3)`."""
        return f"{self.file}  page {self.page + 1} (#{self.page})"


@dataclass(frozen=True, repr=False)
class PageSearchResult(SearchResult):
    """The best pages of a search: `hits` are (id, score), best first.

    `backbone` is what the pages were found by; None where words alone found them.
    """

    backbone: Backbone | None = None

    noun: ClassVar[str] = "pages"
    layout: ClassVar[Literal["images", "pages"]] = "pages"
    side: ClassVar[int] = PAGE_SIDE

    def caption(self, id: str) -> str:
        """File and page."""
        file, page = split_page_id(id)
        return PageHit(0, 0.0, file, page).place

    @property
    def pages(self) -> tuple[PageHit, ...]:
        """The hits by file and page."""
        return tuple(
            PageHit(rank, score, *split_page_id(id)) for rank, (id, score) in enumerate(self.hits, start=1)
        )

    def explain(self, rank: int = 1) -> SimilarityMap:
        """Which part of the page at a rank answered, as far as its look was asked.

        Raises:
            InputError: no page has this rank; words alone found the pages; the backbone does not say.
        """
        if not 1 <= rank <= len(self.hits):
            raise InputError(f"There is no page at rank {rank}; there are {len(self.hits)}, from rank 1 on.")
        return similarity_map(self._encoder, self.text, self.images.read(self.hits[rank - 1][0]))

    @property
    def gallery(self) -> Gallery:
        """The question and its pages; a page that cannot be drawn is a sheet that says so."""
        return self._gallery_of(_Sheets(self.images))

    @property
    def explained(self) -> Gallery:
        """The gallery with every page covered where it answered; raises `InputError` as `explain`."""
        return self._gallery_of(_Sheets(self.images, self._encoder, self.text))

    @property
    def _encoder(self) -> Backbone:
        if self.backbone is None:
            raise InputError("Words alone found these pages: no part of their look was asked.")
        return self.backbone


@dataclass(frozen=True)
class _Sheets:
    """Pages as a gallery shows them, with a backbone covered where they answer a question; an `ImageSource`.

    Words find pages that cannot be drawn, too.
    """

    images: ImageSource
    backbone: Backbone | None = None
    text: str = ""

    @property
    def ids(self) -> Sequence[str]:
        return self.images.ids

    def read(self, id: str) -> Image.Image:
        try:
            page = self.images.read(id)
        except InputError:
            return _undrawn_sheet()
        return page if self.backbone is None else similarity_map(self.backbone, self.text, page).overlay()

    def stamp(self, id: str) -> str:
        return self.images.stamp(id)


def _undrawn_sheet() -> Image.Image:
    sheet = Image.new("RGB", (3 * PAGE_SIDE // 4, PAGE_SIDE), "lightgrey")
    middle = sheet.width // 2, sheet.height // 2
    ImageDraw.Draw(sheet).text(middle, "cannot be drawn", "black", anchor="mm", font_size=24)
    return sheet
