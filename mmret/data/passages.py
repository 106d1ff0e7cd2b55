"""Training sets whose questions name their pages, as Tevatron publishes them: Wiki-SS, docmatix-ir.

| questions | |
|---|---|
| old columns | `query_id, query, positive_passages [{docid}], negative_passages [{docid}]` |
| new columns | `query_id, query_text, positive_document_ids, negative_document_ids` |

The corpus has `docid, image` (and `text`), or a list `images` a row, whose ids are then `ROW_IMAGE` (Docmatix). Checked
against the training code in texttron/tevatron, `examples/dse/dataset.py`; the data themselves were not seen.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from mmret.data.beir import QUERY, QUERY_ID, folder_tables, hub_tables, read_corpus
from mmret.data.images import ImageSource
from mmret.data.query_pages import PageQuery, QueryPages, warn_left_out
from mmret.data.record_tables import RecordTable, find_table, require_split
from mmret.data.table_images import ListedImages
from mmret.data.text_sources import TextSource
from mmret.data.wiki_ss import CORPORA, POSITIVES, QUESTIONS, document_ids, find_part
from mmret.errors import InputError

NEGATIVES: Final = ("negative_passages", "negative_document_ids")

_CORPUS_SPLIT: Final = "train"
_ROWS: Final = "rows"
_HUB: Final = "hub:"
_LISTS: Final = "images"


class Release(NamedTuple):
    """A published set: its folder below the data folder, and the folders in it, the first that is there counts."""

    folder: str
    questions: Sequence[str]
    corpora: Sequence[str]


RELEASES: Final = {
    "wiki-ss": Release("wiki-ss", QUESTIONS, CORPORA),
    "docmatix-ir": Release("docmatix-ir", ("docmatix-ir",), ("Docmatix/images", "Docmatix", "corpus")),
}


def read_release(name: str, root: Path, split: str) -> QueryPages:
    """A published set below its folder.

    Raises:
        InputError: Questions or corpus are not there; and as `read_passages`.
    """
    _, questions, corpora = RELEASES[name]
    found = find_part(root, questions, split), find_part(root, corpora, _CORPUS_SPLIT)
    if found[0] is None:
        raise InputError(
            f"There are no questions of {split} in {root}: neither of {' nor '.join(questions)}."
        )
    if found[1] is None:
        raise InputError(f"There is no corpus in {root}: neither of {' nor '.join(corpora)}.")
    require_split(found[0], split)
    return read_passages(f"{name} in {root}", found[0], found[1])


def read_named(place: str, split: str) -> QueryPages:
    """`QUESTIONS+CORPUS`, each a folder or `hub:OWNER/NAME` (or `hub:OWNER/NAME#CONFIGURATION`).

    Raises:
        InputError: Another form, or a set that cannot be had; and as `read_passages`.
    """
    questions, plus, corpus = place.partition("+")
    if not (questions and plus and corpus):
        raise InputError(f"{place!r} names no questions and corpus; write QUESTIONS+CORPUS.")
    asked = _table(questions, split)
    require_split(asked, split)
    return read_passages(place, asked, _table(corpus, _CORPUS_SPLIT))


def _table(place: str, split: str) -> RecordTable:
    if place.startswith(_HUB):
        name, _, configuration = place.removeprefix(_HUB).partition("#")
        found = hub_tables(name)(configuration or _ROWS, split)
    else:
        root = Path(place)
        found = folder_tables(root)(_ROWS, split) or find_table(root.parent, root.name, split)
    if found is None:
        raise InputError(f"{place} has no table for the split {split!r} (data/README.md shows the layouts).")
    return found


def read_passages(name: str, questions: RecordTable, corpus: RecordTable) -> QueryPages:
    """Questions with the pages that they name; no image is read.

    Pages that the corpus lacks are passed over; questions that are left without a page are left out, with a warning.

    Raises:
        InputError: A column is missing; no question has a page; and as `QueryPages.of`.
    """
    pages: ImageSource
    texts: TextSource | None = None
    if corpus.optional(_LISTS) is not None:
        queries = list(_questions(questions, None))
        named = (id for query in queries for id in (*query.positives, *query.negatives))
        pages = ListedImages(corpus, _LISTS, dict.fromkeys(named))
    else:
        found = read_corpus(corpus)
        if found.texts:
            raise InputError(f"{corpus.paths[0]} has no images; a page encoder trains on images.")
        pages, texts = found.images, found.page_texts
        queries = list(_questions(questions, frozenset(found.gallery)))
    kept = [query for query in queries if query.positives]
    if len(kept) < len(queries):
        warn_left_out(len(queries) - len(kept), len(queries), name)
    return QueryPages.of(name, kept, pages, texts)


def _questions(table: RecordTable, gallery: Collection[str] | None) -> Iterator[PageQuery]:
    """The questions with those of their pages that the gallery has."""
    id_column, text = table.require(*QUERY_ID), table.require(*QUERY)
    positives, negatives = table.require(*POSITIVES), table.optional(*NEGATIVES)
    columns = [name for name in (id_column, text, positives, negatives) if name is not None]

    def known(cell: object) -> tuple[str, ...]:
        return tuple(id for id in document_ids(cell) if gallery is None or id in gallery)

    for where, row in table.rows(columns):
        if not isinstance(row[text], str):
            raise InputError(f"{where} has no words in {text!r}; a query is text here.")
        yield PageQuery(
            str(row[id_column]), row[text], known(row[positives]), known(row.get(negatives or ""))
        )
