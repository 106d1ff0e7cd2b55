"""Hard negatives of a training set's queries: what a search ranks high, and is not known to answer.

What is ranked high may answer all the same. Positive-aware mining (NV-Retriever, arXiv 2407.15831, section 3.2) leaves
out what scores too near to the page that is known to answer; its three rules may be combined. All three compare
with the weakest of the query's positives.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from mmret.backbones.base import Backbone
from mmret.data.negative_files import QueryNegatives, write_negatives
from mmret.data.query_pages import PageQuery, QueryPages
from mmret.data.text_sources import GalleryTexts, TextSource
from mmret.embedding import Vectors, embed_documents, embed_queries
from mmret.errors import InputError
from mmret.retrieval.index import Index
from mmret.retrieval.maxsim import MultiVectorIndex, search_multi_vectors
from mmret.retrieval.multi_vectors import ManyVectors, MultiVectors
from mmret.retrieval.run import Run
from mmret.retrieval.search import search
from mmret.retrieval.store import EmbeddingStore
from mmret.text_search.bm25 import BM25

_QUERIES_AT_A_TIME = 4096
_TEXTS_AT_A_TIME = 256
_PROGRESS_AFTER_S = 5.0


class Search(Protocol):
    """Some queries over all pages, k deep; see `mmret.retrieval.search.search` for the rest."""

    def __call__(
        self,
        *,
        k: int,
        exclude: Mapping[str, Sequence[str]] | None = None,
        pools: Mapping[str, Sequence[str]] | None = None,
    ) -> Run:
        """Rank the pages, or those of a query's pool; `exclude` is never returned."""
        ...


Ask = Callable[[Mapping[str, str]], Search]
"""Query id → text, a few thousand at once, to what searches for them."""


def check_threshold(positive_threshold: float | None) -> None:
    """Raise `InputError` unless it is a share of a positive's score (None: there is none)."""
    if positive_threshold is not None and not 0 < positive_threshold <= 1:
        raise InputError(
            f"positive_threshold is {positive_threshold:g}; give a share of at most 1, such as 0.95."
        )


@dataclass(frozen=True)
class Mining:
    """Which of the pages that a search ranks high are a query's hard negatives.

    Attributes:
        depth: So many pages are looked at, those that are known to answer not counted.
        negatives: So many are kept at most, the best-ranked first.
        skip_top: So many are passed over at the top, whatever their scores.
        positive_threshold: Only pages that score at most this share of the positive's score (TopK-PercPos, .95 in the
            paper); where that score is negative, at most that score.
        positive_margin: Only pages that score so much less than the positive at least (TopK-MarginPos, .05).
        max_score: Only pages that score at most so much (TopK-Abs, .7).

    Raises:
        InputError: A number that cannot be.
    """

    depth: int = 100
    negatives: int = 20
    skip_top: int = 0
    positive_threshold: float | None = 0.95
    positive_margin: float | None = None
    max_score: float | None = None

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing."""
        if not 1 <= self.negatives <= self.depth or not 0 <= self.skip_top < self.depth:
            raise InputError(
                f"depth is {self.depth}, negatives {self.negatives}, skip_top {self.skip_top}: of `depth` pages so "
                "many are kept (from 1) and passed over (from 0)."
            )
        check_threshold(self.positive_threshold)
        if self.positive_margin is not None and self.positive_margin < 0:
            raise InputError(
                f"positive_margin is {self.positive_margin:g}; give a number from 0, such as 0.05."
            )

    @property
    def looks_at_positives(self) -> bool:
        """Whether a rule compares with the positive's score."""
        return self.positive_threshold is not None or self.positive_margin is not None

    def limit(self, positive_score: float) -> float:
        """The highest score of a negative, given the positive's (-inf: the search does not find it)."""
        limits = [np.inf if self.max_score is None else self.max_score]
        if self.positive_threshold is not None:
            limits.append(min(positive_score, self.positive_threshold * positive_score))
        if self.positive_margin is not None:
            limits.append(positive_score - self.positive_margin)
        return min(limits)

    def choose(
        self, ranking: Sequence[tuple[str, float]], positive_score: float
    ) -> tuple[tuple[str, float], ...]:
        """The negatives of a ranking (page, score), best first, without pages that are known to answer."""
        limit = self.limit(positive_score)
        low = [(page, score) for page, score in ranking[self.skip_top : self.depth] if score <= limit]
        return tuple(low[: self.negatives])


@dataclass(frozen=True)
class Mined:
    """What was mined: queries, negatives of all of them, and how many queries have none."""

    queries: int
    negatives: int
    without: int

    def __str__(self) -> str:
        none = f"; {self.without:,} queries have none" if self.without else ""
        return f"{self.negatives:,} hard negatives of {self.queries:,} queries{none}"


def mine(ask: Ask, queries: Sequence[PageQuery], mining: Mining) -> Iterator[QueryNegatives]:
    """The hard negatives of each query, in order; the first k of a query never hold a page that answers it.

    Args:
        ask: What searches, such as `ask_vectors`.
        queries: Of a `QueryPages`, whose pages are all searched.
        mining: The rules.
    """
    starts = range(0, len(queries), _QUERIES_AT_A_TIME)
    for start in tqdm(starts, desc="mining", unit="block", delay=_PROGRESS_AFTER_S, disable=len(starts) < 2):
        block = queries[start : start + _QUERIES_AT_A_TIME]
        searching = ask({query.id: query.text for query in block})
        found = searching(k=mining.depth, exclude={query.id: sorted(query.relevant) for query in block})
        weakest = _weakest_positives(searching, block) if mining.looks_at_positives else {}
        for query in block:
            score = weakest.get(query.id, -np.inf)
            yield QueryNegatives(query.id, mining.choose(found.ranking(query.id), score), score)


def _weakest_positives(searching: Search, block: Sequence[PageQuery]) -> dict[str, float]:
    """The lowest score among each query's positives, -inf where one is not found."""
    pools = {query.id: query.positives for query in block}
    run = searching(k=max(map(len, pools.values())), pools=pools)
    scores = {name: [score for _, score in run.ranking(name)] for name in pools}
    return {name: min(scores[name]) if len(scores[name]) == len(pools[name]) else -np.inf for name in pools}


def ask_vectors(backbone: Backbone, ids: Sequence[str], vectors: Vectors | ManyVectors) -> Ask:
    """Search by a backbone's vectors of pages, as `embed_documents` gives them."""
    if isinstance(vectors, np.ndarray):
        index = Index(ids, vectors)
        return lambda queries: partial(search, index, queries, _encoded(backbone, queries))
    many = MultiVectorIndex(ids, vectors, device=str(backbone.device))
    return lambda queries: partial(search_multi_vectors, many, queries, _encoded(backbone, queries))


def _encoded(backbone: Backbone, queries: Mapping[str, str]) -> Any:
    """Vectors [Q, D], or `MultiVectors`, of the queries' texts."""
    texts = list(queries.values())
    blocks = (texts[start : start + _TEXTS_AT_A_TIME] for start in range(0, len(texts), _TEXTS_AT_A_TIME))
    parts = [embed_queries(backbone, block) for block in blocks]
    if isinstance(parts[0], MultiVectors):
        return MultiVectors.concatenated([part for part in parts if isinstance(part, MultiVectors)])
    return np.concatenate([part for part in parts if isinstance(part, np.ndarray)])


def ask_words(texts: TextSource, pages: Sequence[str], name: str, bm25: BM25 | None = None) -> Ask:
    """Search by the pages' words, by BM25; `name` is said for pages that have no text. Raises `InputError`."""
    index = (bm25 or BM25()).index(GalleryTexts(texts, pages, name).read())
    return lambda queries: partial(index.search, queries)


def mine_by_vectors(
    backbone: Backbone,
    data: QueryPages,
    path: str | Path,
    mining: Mining,
    *,
    store: EmbeddingStore | None = None,
    max_pages: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    workers: int | None = None,
    made_by: Mapping[str, Any] | None = None,
) -> Mined:
    """Embed pages and queries, mine, and write the file (`mmret.data.negative_files`).

    Args:
        backbone: That embeds both.
        data: The training set.
        path: Of the file, which appears whole or not at all.
        mining: The rules.
        store: That pages are embedded into, so that a killed run goes on; without one they stay in memory.
        max_pages: Search only so many pages: the queries' own, and others at random; None: all.
        seed: Of these.
        batch_size, workers: As of `embed_documents`.
        made_by: What the file's header says besides.

    Raises:
        InputError: Pages that cannot be read; a file that cannot be written.
    """
    ids = some_pages(data, max_pages, seed)
    vectors = embed_documents(backbone, data.pages, ids, store=store, batch_size=batch_size, workers=workers)
    header = {"backbone": {"name": backbone.spec.name, **backbone.fingerprint()}, **(made_by or {})}
    with backbone.cuts_told_once():
        return write_mined(path, ask_vectors(backbone, ids, vectors), data, mining, len(ids), header)


def write_mined(
    path: str | Path, ask: Ask, data: QueryPages, mining: Mining, pages: int, made_by: Mapping[str, Any]
) -> Mined:
    """Mine and write the file; `pages` is how many are searched, for its header."""
    header = {"source": data.name, "pages": pages, **asdict(mining), **made_by}
    counted = _Counted(mine(ask, data.queries, mining))
    queries, negatives = write_negatives(path, header, counted)
    return Mined(queries, negatives, counted.without)


@dataclass
class _Counted:
    """Passes on, and counts queries without a negative."""

    found: Iterator[QueryNegatives]
    without: int = 0

    def __iter__(self) -> Iterator[QueryNegatives]:
        for query in self.found:
            self.without += not query.negatives
            yield query


def some_pages(data: QueryPages, count: int | None, seed: int = 0) -> list[str]:
    """All pages of a set, or the queries' own and others, drawn by the seed, up to `count`; in the set's order.

    Raises `InputError` for fewer than the queries' own.
    """
    ids = list(data.pages.ids)
    if count is None or count >= len(ids):
        return ids
    own = {page for query in data.queries for page in query.positives}
    if count < len(own):
        raise InputError(
            f"max_pages is {count:,}; the queries of {data.name} have {len(own):,} pages of their own."
        )
    others = random.Random(seed).sample([id for id in ids if id not in own], count - len(own))
    kept = own.union(others)
    return [id for id in ids if id in kept]
