"""Searching a small set of documents per query: its vectors are gathered and scored exactly."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from mmret.errors import InputError
from mmret.retrieval.checks import Floats, Integers
from mmret.retrieval.gallery import Gallery
from mmret.retrieval.index import Index
from mmret.retrieval.ranking import is_excluded, pair_scores, rank

_SHARED_FROM_PAIRS = 2**16  # a pool that several queries share becomes a gallery of its own from this size
_PAIRS_AT_A_TIME = 2**20


def pool_rows(
    index: Gallery, query_ids: Sequence[str], pools: Mapping[str, Sequence[str]]
) -> list[tuple[int, ...]]:
    """Each query's pool as rows of the gallery; an id that a pool repeats counts once.

    Raises:
        InputError: a query has no pool, or a pool names a document that is not in the gallery.
    """
    found = []
    for query in query_ids:
        if query not in pools:
            raise InputError(f"Query {query!r} has no pool: give every query one, or none at all.")
        names = dict.fromkeys(pools[query])
        absent = [name for name in names if name not in index.positions]
        if absent:
            raise InputError(
                f"The pool of query {query!r} names {len(absent)} documents that are not in the gallery, "
                f"first {absent[0]!r}: add them or correct the pool."
            )
        found.append(tuple(index.positions[name] for name in names))
    return found


def rank_pools(
    index: Index, queries: Floats, k: int, pools: list[tuple[int, ...]], excluded: Integers
) -> tuple[Floats, Integers]:
    """The k best of each query's pool: scores float32 [Q, k] and rows int64 [Q, k], padded -inf and -1."""
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    owners: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for query, pool in enumerate(pools):
        owners[pool].append(query)
    single: list[int] = []
    for pool, members in owners.items():
        if len(members) > 1 and len(members) * len(pool) >= _SHARED_FROM_PAIRS:
            mine = np.array(members)
            scores[mine], rows[mine] = _rank_shared(index, queries, mine, k, np.array(pool), excluded)
        else:
            single.extend(members)
    for some in _batches(single, pools):
        mine = np.array(some)
        scores[mine], rows[mine] = _rank_pairs(index, queries, mine, k, [pools[q] for q in some], excluded)
    return scores, rows


def _batches(members: list[int], pools: list[tuple[int, ...]]) -> list[list[int]]:
    """Queries in groups whose pools together hold about a bounded number of documents."""
    ends = np.cumsum([len(pools[query]) for query in members])
    groups: dict[int, list[int]] = defaultdict(list)
    for query, end in zip(members, ends, strict=True):
        groups[int(end) // _PAIRS_AT_A_TIME].append(query)
    return list(groups.values())


def _rank_shared(
    index: Index, queries: Floats, mine: Integers, k: int, pool: Integers, excluded: Integers
) -> tuple[Floats, Integers]:
    """Many queries over one pool: a search of the gathered vectors, on the CPU with the index's library."""
    pool = np.sort(pool)
    names = [index.ids[row] for row in pool]
    gallery = Index(names, index.vectors[pool], backend=index.backend_name, normalise=False)
    of_query, row = np.divmod(excluded, len(index))
    local_query, local_row = _places(mine, of_query), _places(pool, row)
    inside = (local_query >= 0) & (local_row >= 0)
    scores, places = rank(gallery, queries[mine], k, (local_query * len(pool) + local_row)[inside])
    return scores, np.where(places >= 0, pool[places], -1)


def _places(ascending: Integers, values: Integers) -> Integers:
    """Where each value stands in an ascending array, -1 where it does not."""
    places = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return np.where(ascending[places] == values, places, -1)


def _rank_pairs(
    index: Index, queries: Floats, mine: Integers, k: int, pools: list[tuple[int, ...]], excluded: Integers
) -> tuple[Floats, Integers]:
    """Every query over its own pool: all pairs scored at once, then sorted by query, score and id."""
    owner = np.repeat(np.arange(len(mine)), [len(pool) for pool in pools])
    documents = np.array([row for pool in pools for row in pool], dtype=np.int64)
    kept = ~is_excluded(mine[owner], documents, excluded, len(index))
    owner, documents = owner[kept], documents[kept]
    found = pair_scores(index, queries, mine[owner], documents)
    order = np.lexsort((index.id_ranks[documents], -found, owner))
    owner, documents, found = owner[order], documents[order], found[order]
    place = np.arange(len(owner)) - np.searchsorted(owner, owner)
    top = place < k
    scores = np.full((len(mine), k), -np.inf, dtype=np.float32)
    rows = np.full((len(mine), k), -1, dtype=np.int64)
    scores[owner[top], place[top]] = found[top]
    rows[owner[top], place[top]] = documents[top]
    return scores, rows
