"""Slides: a retrieval set whose pages belong to decks, so that a question's hard negatives are its deck's other slides.

DSE trains on SlideVQA so (arXiv 2406.11251, section 4.2). Its own set has no public release; SlideVQA has one
(`mmret.data.slide_rows`), and any set in three tables does. There a slide's deck is a column of the corpus (`deck` or
`deck_name`), or else its id without the number at the end (`talks/intro_12.jpg` and `talks/intro-3.jpg` are slides of
`talks/intro`).
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mmret.data import slide_rows
from mmret.data.beir import CORPUS_ID, Tables, read_tables
from mmret.data.query_pages import PageQuery, QueryPages, from_annotations
from mmret.data.record_tables import RecordTable
from mmret.errors import InputError

_COLUMNS = ("deck", "deck_name")
_NUMBERED = re.compile(r"(.*?)[-_#/ ]*(?:page|slide)?[-_#/ ]*\d+(?:\.\w+)?", re.DOTALL)


def read_decks(name: str, tables: Tables, split: str, root: Path | None = None) -> QueryPages:
    """A set of slides with its decks: negatives are a deck's other slides, and whole decks are held out.

    The slides nearest to one that answers stand first among the negatives.

    Raises:
        InputError: The set has no corpus, or nothing in it has a neighbour; and as `read_tables` and `QueryPages.of`.
    """
    table = tables("corpus", split) or tables("rows", split)
    if table is None:
        raise InputError(
            f"{name} has no table corpus, whose ids would say the decks, and no rows with slides."
        )
    slides = slide_rows.has_slides(table)
    data = from_annotations(
        name, slide_rows.read_slides(table) if slides else read_tables(tables, split, root)
    )
    deck_of = {id: slide_rows.deck_of(id) for id in data.pages.ids} if slides else _decks(table)
    decks: dict[str, list[str]] = defaultdict(list)
    for id in data.pages.ids:
        decks[deck_of[id]].append(id)
    if max(map(len, decks.values())) < 2:
        raise InputError(
            f"{table.paths[0]}: every slide has a deck of its own, so none has a neighbour; say the decks in a column "
            "'deck'."
        )
    return replace(data, queries=tuple(_with_deck(query, deck_of, decks) for query in data.queries))


def _decks(corpus: RecordTable) -> dict[str, str]:
    """The deck of each slide."""
    id_column, column = corpus.require(*CORPUS_ID), corpus.optional(*_COLUMNS)
    columns = [id_column] if column is None else [id_column, column]
    rows = (row for _, row in corpus.rows(columns))
    if column is not None:
        return {str(row[id_column]): str(row[column]) for row in rows}
    return {id: _without_number(id) for id in (str(row[id_column]) for row in rows)}


def _without_number(id: str) -> str:
    found = _NUMBERED.fullmatch(id)
    # A bare number says no deck: each such slide is alone.
    return found[1] if found and found[1] else id


def _with_deck(query: PageQuery, deck_of: Mapping[str, str], decks: Mapping[str, Sequence[str]]) -> PageQuery:
    first = deck_of[query.positives[0]]
    slides = decks[first]
    places = {id: place for place, id in enumerate(slides)}
    own = [places[id] for id in query.positives if id in places]
    others = [id for id in slides if id not in query.relevant]
    others.sort(key=lambda id: min(abs(places[id] - place) for place in own))
    return replace(query, negatives=tuple(others), group=first)
