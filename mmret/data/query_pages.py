"""Queries with the pages that answer them: what a page encoder is trained on, whatever layout they came in.

A reader of a layout (`mmret.data.page_sources`) gives a `QueryPages`; from there on nothing knows where it came from.
Ids and texts are in memory, pages are read and decoded when a batch needs them.
"""

import random
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mmret.data.images import ImageSource
from mmret.data.published import Annotations
from mmret.data.text_sources import TextSource
from mmret.errors import InputError, InputWarning


@dataclass(frozen=True, slots=True)
class PageQuery:
    """A text query and what is known of its pages.

    Attributes:
        id: Unique in its set.
        text: Of the query.
        positives: Pages to train it on, one or more.
        negatives: Pages that the set names as hard negatives, the hardest first.
        also_relevant: Other pages that answer it: never negatives, and not trained on either.
        group: What is held out together (the query's document); empty where each query stands alone.
    """

    id: str
    text: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...] = ()
    also_relevant: frozenset[str] = frozenset()
    group: str = ""

    @property
    def relevant(self) -> frozenset[str]:
        """All pages that are known to answer the query."""
        return self.also_relevant.union(self.positives)


@dataclass(frozen=True)
class QueryPages:
    """A training set: queries, and the images of all pages. Make one with `QueryPages.of`.

    Attributes:
        name: The source, for messages.
        queries: One or more.
        pages: The images; whatever is no positive of any query is there to be mined and drawn.
        texts: What the pages say, where the set has it.
    """

    name: str
    queries: tuple[PageQuery, ...]
    pages: ImageSource
    texts: TextSource | None = None

    @classmethod
    def of(
        cls, name: str, queries: Iterable[PageQuery], pages: ImageSource, texts: TextSource | None = None
    ) -> "QueryPages":
        """Check the queries against the pages, and let queries that ask the same share what answers them.

        Raises:
            InputError: No queries; one without words, without a positive, or with the id of another; unknown pages.
        """
        known = {id: id for id in pages.ids}
        checked = [_checked(query, known, name) for query in queries]
        if not checked:
            raise InputError(f"{name} has no query to train on.")
        [(id, count)] = Counter(query.id for query in checked).most_common(1)
        if count > 1:
            raise InputError(f"{name} has the query id {id!r} twice; ids are unique.")
        return cls(name, _sharing(checked), pages, texts)

    def hold_out(self, held_out: int | Sequence[str], seed: int) -> tuple[list[int], list[int]]:
        """Which queries train and which validate, by position, ascending.

        Args:
            held_out: So many queries at most, drawn by the seed; where queries belong to documents, whole documents.
                Or the names of documents.
            seed: Of the drawing.

        Raises:
            InputError: Nothing is left to train on, no document is as small, or there is no such document.
        """
        groups: dict[str, list[int]] = defaultdict(list)
        for position, query in enumerate(self.queries):
            groups[query.group or f"\0{position}"].append(position)
        if isinstance(held_out, int):
            chosen = _drawn(groups, held_out, seed, self.name)
        else:
            chosen = _named(groups, held_out, self.name)
        val = sorted(position for group in chosen for position in groups[group])
        if len(val) == len(self.queries):
            raise InputError(
                f"held_out takes all {len(val):,} queries of {self.name}; leave some to train on."
            )
        kept = set(val)
        return [position for position in range(len(self.queries)) if position not in kept], val


def from_annotations(name: str, found: Annotations) -> QueryPages:
    """The judged queries of a retrieval set; all pages with a grade of 1 or more are positives.

    Raises:
        InputError: The gallery is texts; and as `QueryPages.of`.
    """
    if found.texts:
        raise InputError(f"{name} is a set of texts without images; a page encoder trains on images.")
    judged = [query for query in found.queries if query.targets]
    if len(judged) < len(found.queries):
        warn_left_out(len(found.queries) - len(judged), len(found.queries), name)
    queries = (PageQuery(query.id, query.texts[0], tuple(query.targets)) for query in judged)
    return QueryPages.of(name, queries, found.images, found.page_texts)


def warn_left_out(count: int, total: int, name: str) -> None:
    """Warn of queries that name no page to train on."""
    warnings.warn(
        f"{count:,} of {total:,} queries of {name} name no page to train on, and are left out.",
        InputWarning,
        stacklevel=3,
    )


def _checked(query: PageQuery, known: Mapping[str, str], name: str) -> PageQuery:
    """The query with the pages' own strings for their ids, so that none of them is in memory twice."""
    if not query.text.strip():
        raise InputError(f"{name}: the query {query.id!r} has no words.")
    if not query.positives:
        raise InputError(f"{name}: the query {query.id!r} names no page that answers it.")
    strange = [id for id in (*query.positives, *query.negatives) if id not in known]
    if strange:
        raise InputError(f"{name}: the query {query.id!r} names the page {strange[0]!r}, which is not there.")
    own = dict.fromkeys(known[id] for id in query.positives)
    negatives = dict.fromkeys(known[id] for id in query.negatives if id not in own)
    return replace(query, positives=tuple(own), negatives=tuple(negatives))


def _sharing(queries: Sequence[PageQuery]) -> tuple[PageQuery, ...]:
    """Queries of the same words, whatever their case, with one another's positives as relevant."""
    asked: dict[str, list[int]] = defaultdict(list)
    for position, query in enumerate(queries):
        asked[" ".join(query.text.casefold().split())].append(position)
    found = list(queries)
    for positions in asked.values():
        if len(positions) > 1:
            shared = frozenset(id for position in positions for id in queries[position].relevant)
            for position in positions:
                query = queries[position]
                negatives = tuple(id for id in query.negatives if id not in shared)
                found[position] = replace(query, also_relevant=shared, negatives=negatives)
    return tuple(found)


def _drawn(groups: Mapping[str, Sequence[int]], count: int, seed: int, name: str) -> list[str]:
    """Groups in a seeded order, each as long as it still fits into `count` queries."""
    total = sum(map(len, groups.values()))
    if not 0 <= count < total:
        raise InputError(f"held_out is {count:,}, of {total:,} queries of {name}; leave some to train on.")
    order = sorted(groups)
    random.Random(seed).shuffle(order)
    chosen, held = [], 0
    for group in order:
        if held + len(groups[group]) <= count:
            chosen.append(group)
            held += len(groups[group])
    if count and not chosen:
        smallest = min(map(len, groups.values()))
        raise InputError(
            f"held_out is {count:,}, but whole documents are held out, and that of {name} with the fewest queries has "
            f"{smallest:,}: give more, or name documents."
        )
    return chosen


def _named(groups: Mapping[str, Sequence[int]], names: Sequence[str], name: str) -> list[str]:
    unknown = [group for group in names if group not in groups]
    if unknown:
        has = ", ".join(sorted(group for group in groups if not group.startswith("\0"))[:8])
        raise InputError(
            f"held_out names {unknown[0]!r}, which is no document with queries of {name}; it has "
            f"{has or 'no documents: give a number of queries'}."
        )
    return list(dict.fromkeys(names))
