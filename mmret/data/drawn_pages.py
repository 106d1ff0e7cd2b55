"""Which pages a query gets in an epoch, drawn in the main process, and their images, read wherever a loader works.

Everything random is decided by (seed, epoch, query) alone, so that a resumed training draws what the killed one would
have drawn. The loader's workers are told what to read, pages and all: negatives that change between two epochs need
no new workers.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from mmret.backbones.preprocess import ImageTransform
from mmret.data.batches import QueryPageBatch
from mmret.data.images import ImageSource
from mmret.data.query_pages import PageQuery, QueryPages
from mmret.data.resuming import ResumableSampler
from mmret.errors import InputError


class Draw(NamedTuple):
    """A query, by position, and its pages: one that answers it, then its hard negatives."""

    query: int
    pages: tuple[str, ...]


class PageDrawing:
    """Draws, for a query and an epoch, one of its pages and `count` hard negatives.

    Negatives are drawn without repetition from the query's list: the set's own, or `negatives` where that is given
    (query id → pages, the hardest first). A list that is too short is filled up with random pages. No page that is
    known to answer the query is ever drawn as a negative.

    Args:
        data: The training set.
        count: Hard negatives a query.
        ranks: First and last rank, from 1, of the part of a list that is drawn from; None: all of it.
        seed: Of all draws.

    Raises:
        InputError: A count below 0, or ranks that are no range.
    """

    def __init__(
        self, data: QueryPages, count: int, ranks: Sequence[int] | None = None, seed: int = 0
    ) -> None:
        if count < 0:
            raise InputError(f"hard_negatives is {count}; give a number from 0.")
        if ranks is not None and not (len(ranks) == 2 and 1 <= ranks[0] <= ranks[1]):
            raise InputError(
                f"negative_range is {list(ranks)}; give a first and a last rank, from 1, as in [1, 20]."
            )
        self.data, self.count, self.seed = data, count, seed
        self.negatives: Mapping[str, Sequence[str]] | None = None
        self._part = slice(None) if ranks is None else slice(ranks[0] - 1, ranks[1])
        self._pages = data.pages.ids

    def __call__(self, position: int, epoch: int) -> Draw:
        """The pages of a query in an epoch; raises `InputError` where the set has too few pages."""
        query = self.data.queries[position]
        generator = random.Random(f"{self.seed} {epoch} {query.id}")
        own = generator.choice(query.positives)
        if not self.count:
            return Draw(position, (own,))
        listed = self._listed(query)
        chosen = generator.sample(listed, min(self.count, len(listed)))
        return Draw(position, (own, *self._filled(chosen, query, generator)))

    def short(self, positions: Sequence[int]) -> int:
        """How many of these queries have a list that random pages must fill up."""
        return sum(
            len(self._listed(self.data.queries[position])) < self.count
            for position in positions
            if self.count
        )

    def _listed(self, query: PageQuery) -> list[str]:
        listed = query.negatives if self.negatives is None else self.negatives.get(query.id, ())
        relevant = query.relevant
        return [id for id in listed[self._part] if id not in relevant]

    def _filled(self, chosen: list[str], query: PageQuery, generator: random.Random) -> list[str]:
        taken = {*chosen, *query.relevant}
        if len(self._pages) - len(query.relevant) < self.count:
            raise InputError(
                f"{self.data.name} has {len(self._pages):,} pages, too few for {self.count} hard negatives of the "
                f"query {query.id!r}, which {len(query.relevant):,} of them answer."
            )
        while len(chosen) < self.count:
            page = generator.choice(self._pages)
            if page not in taken:
                chosen.append(page)
                taken.add(page)
        return chosen


class DrawingSampler(ResumableSampler):
    """A `ResumableSampler` over queries that gives `Draw`s in the place of numbers.

    Args:
        positions: The queries.
        draw: (position, epoch) → `Draw`.
        replicas, rank: Devices, and this one's number.
        seed: Of the order.
    """

    def __init__(
        self, positions: Sequence[int], draw: Callable[[int, int], Draw], replicas: int, rank: int, seed: int
    ) -> None:
        super().__init__(positions, replicas, rank, shuffle=True, seed=seed)  # type: ignore[arg-type]
        self.positions, self.draw = positions, draw

    def __iter__(self) -> Iterator[Draw]:  # type: ignore[override]
        return (self.draw(self.positions[item], self.epoch) for item in super().__iter__())


class PageItem(NamedTuple):
    """A query, the ids of its pages and their pixels, uint8 [3, H, W] each."""

    query: PageQuery
    page_ids: tuple[str, ...]
    pages: list[Tensor]


class DrawnPages:
    """Reads the pages of `Draw`s; what a `DrawingSampler`'s loader reads from."""

    def __init__(self, queries: Sequence[PageQuery], images: ImageSource, transform: ImageTransform) -> None:
        self.queries, self.images, self.transform = queries, images, transform

    def __len__(self) -> int:
        return len(self.queries)

    def __getitem__(self, draw: Draw) -> PageItem:
        pixels = [self.transform.pixels(self.images.read(id)) for id in draw.pages]
        return PageItem(self.queries[draw.query], draw.pages, pixels)

    def collate(self, items: Sequence[PageItem]) -> QueryPageBatch:
        """B items to one batch: the queries' own pages, then the hard negatives, query after query."""
        own = [(item.page_ids[0], item.pages[0]) for item in items]
        hard = [pair for item in items for pair in zip(item.page_ids[1:], item.pages[1:], strict=True)]
        ids, pixels = zip(*own, *hard, strict=True)
        return {
            "query_ids": [item.query.id for item in items],
            "queries": [item.query.text for item in items],
            "pages": self.transform.stack(pixels),
            "page_ids": list(ids),
            "relevant": [item.query.relevant for item in items],
        }
