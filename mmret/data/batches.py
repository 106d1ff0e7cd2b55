"""Batches of the DataModules: what is in one, and how items become it."""

from collections.abc import Callable, Sequence
from typing import NotRequired, Protocol, TypedDict, TypeVar

import torch
from PIL import Image
from torch import Tensor

from mmret.data.images import ImageSource

Transform = Callable[[Image.Image], Tensor]
Item_co = TypeVar("Item_co", covariant=True)


class MapStyle(Protocol[Item_co]):
    """What a torch DataLoader reads by index."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Item_co: ...


class CaptionedBatch(TypedDict):
    """`pixels` float32 [B, 3, H, W] and B captions."""

    pixels: Tensor
    captions: list[str]


class CaptionBatch(TypedDict):
    """B captions."""

    captions: list[str]


class TextTripletBatch(TypedDict):
    """B text triplets: what the reference shows, the condition, and what the target shows."""

    references: list[str]
    conditions: list[str]
    targets: list[str]


class ImageBatch(TypedDict):
    """B image ids and `pixels` float32 [B, 3, H, W]."""

    ids: list[str]
    pixels: Tensor


class QueryPageBatch(TypedDict):
    """B text queries and N pages, each query's own among them.

    Query b's own page is page b, or page `own[b]` where a batch says so: several queries may ask for one page. What is
    no query's own is a hard negative. `pages` are uint8, [N, 3, H, W] or N tensors [3, H, W], as a backbone's
    `transform.pixels` and `.stack` give them, or N texts, which are encoded as queries are. `page_ids` has N ids;
    `relevant` has for each query the ids of all pages that are known to answer it, which are negatives of it nowhere.
    """

    query_ids: list[str]
    queries: list[str]
    pages: Tensor | Sequence[Tensor] | Sequence[str]
    page_ids: list[str]
    relevant: list[frozenset[str]]
    own: NotRequired[list[int]]


class QueryIndices(TypedDict):
    """`indices` int64 [B] of queries in the benchmark's order."""

    indices: Tensor


class TransformedPairs:
    """Pairs (image, caption) with the image as a backbone's input, float32 [3, H, W]."""

    def __init__(self, pairs: MapStyle[tuple[Image.Image, str]], transform: Transform) -> None:
        self.pairs, self.transform = pairs, transform

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        image, caption = self.pairs[index]
        return self.transform(image), caption


class TransformedImages:
    """Images by id, as (id, float32 [3, H, W])."""

    def __init__(self, images: ImageSource, ids: Sequence[str], transform: Transform) -> None:
        self.images, self.ids, self.transform = images, tuple(ids), transform

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[str, Tensor]:
        return self.ids[index], self.transform(self.images.read(self.ids[index]))


def collate_captioned(items: list[tuple[Tensor, str]]) -> CaptionedBatch:
    """Pairs to one batch."""
    pixels, captions = zip(*items, strict=True)
    return {"pixels": torch.stack(pixels), "captions": list(captions)}


def collate_captions(items: list[str]) -> CaptionBatch:
    """Texts to one batch."""
    return {"captions": items}


def collate_images(items: list[tuple[str, Tensor]]) -> ImageBatch:
    """Images with ids to one batch."""
    ids, pixels = zip(*items, strict=True)
    return {"ids": list(ids), "pixels": torch.stack(pixels)}


def collate_indices(items: list[int]) -> QueryIndices:
    """Query indices to one batch."""
    return {"indices": torch.tensor(items, dtype=torch.int64)}
