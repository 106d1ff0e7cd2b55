"""Hard negatives of queries in a file: JSON lines, one a query, after a header that says what made them.

    {"made_by": {"backbone": {…}, "depth": 100, …}}
    {"query_id": "7", "negatives": [{"page_id": "a.pdf#3", "score": 0.61}, …], "positive_score": 0.7}

Negatives stand with the hardest first. `mmret mine` writes such files; those of one's own need no header and no scores.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from mmret.atomic import atomic_write
from mmret.data import records
from mmret.errors import InputError

HEADER = "made_by"


class QueryNegatives(NamedTuple):
    """A query's hard negatives with their scores, falling, and the score of the weakest page that answers it.

    That score is -inf, and null in the file, where it was not asked for, or the search does not find that page.
    """

    query_id: str
    negatives: tuple[tuple[str, float], ...]
    positive_score: float


def write_negatives(
    path: str | Path, made_by: Mapping[str, Any], found: Iterable[QueryNegatives]
) -> tuple[int, int]:
    """Write the file as queries come, whole or not at all; returns how many queries and negatives it has."""
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    queries = negatives = 0
    with atomic_write(place) as file:
        file.write(_line({HEADER: made_by}))
        for query_id, pages, positive_score in found:
            listed = [{"page_id": id, "score": score} for id, score in pages]
            score = positive_score if isfinite(positive_score) else None
            file.write(_line({"query_id": query_id, "negatives": listed, "positive_score": score}))
            queries, negatives = queries + 1, negatives + len(pages)
    return queries, negatives


def _line(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, ensure_ascii=False) + "\n").encode()


def read_negatives(
    path: str | Path, queries: Collection[str], pages: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """Query id → pages, the hardest first and each once, of these queries; those of other queries are passed over.

    Raises:
        InputError: No file, a record of another form, a page that is not there, or no record of any of the queries.
    """
    known = {id: id for id in pages}
    found: dict[str, tuple[str, ...]] = {}
    for where, record in records.read_json_lines(path):
        if HEADER in record:
            continue
        query = records.field(record, "query_id", str, where)
        if query in found:
            raise InputError(f"{where} lists the query {query!r} once more; keep one of its lines.")
        listed = records.field(record, "negatives", list, where)
        if query in queries:
            found[query] = tuple(dict.fromkeys(_page(item, known, where) for item in listed))
    if not found:
        raise InputError(f"{path} has negatives of none of the queries; mine them for these queries.")
    return found


def _page(item: Any, known: Mapping[str, str], where: str) -> str:
    id = item.get("page_id") if isinstance(item, dict) else item
    if not isinstance(id, str) or id not in known:
        raise InputError(
            f"{where}: 'negatives' names {id!r}, which is no page of the set; mine them for these pages."
        )
    return known[id]
