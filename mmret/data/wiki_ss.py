"""Questions over screenshots of Wikipedia (DSE, Ma et al., EMNLP 2024): NQ and TriviaQA on Wiki-SS.

The corpus lies beside its questions as the hub has them (`Tevatron/wiki-ss-corpus`, `Tevatron/wiki-ss-nq`, and both
with `-new`). A page is right if its text holds an answer (`mmret.data.answers`); known positives are kept as targets.
The text and id columns are read, images only when one is asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from mmret.data.answers import read_answers
from mmret.data.beir import ANSWER_METRICS, QUERY, QUERY_ID, read_corpus
from mmret.data.benchmark import Query
from mmret.data.protocol import page_protocol
from mmret.data.published import Annotations, Release
from mmret.data.record_tables import RecordTable, find_table
from mmret.errors import InputError

POSITIVES: Final = ("positive_passages", "positive_document_ids")
"""Names of a column, old and new."""

QUESTIONS: Final = ("wiki-ss-nq", "wiki-ss-nq-new")
CORPORA: Final = ("wiki-ss-corpus", "wiki-ss-corpus-new", "corpus")
"""Folders, old and new."""

_SPLIT_OF_CORPUS: Final = "train"


def find_part(root: Path, folders: Sequence[str], split: str) -> RecordTable | None:
    """The table of the first folder that has it: a clone of the hub's repository, or plain files."""
    found = (
        find_table(root / folder, "data", split) or find_table(root, folder, split) for folder in folders
    )
    return next((table for table in found if table is not None), None)


def _files(folders: Sequence[str], root: Path, split: str) -> tuple[Path, ...]:
    found = [find_part(root, folders, split), find_part(root, CORPORA, _SPLIT_OF_CORPUS)]
    named = [(folders[0], split), (CORPORA[0], _SPLIT_OF_CORPUS)]
    paths = [
        table.paths if table is not None else (root / folder / "data" / f"{part}-00000-of-00001.parquet",)
        for table, (folder, part) in zip(found, named, strict=True)
    ]
    return tuple(path for each in paths for path in each)


def _read(folders: Sequence[str], root: Path, split: str) -> Annotations:
    questions, corpus = find_part(root, folders, split), find_part(root, CORPORA, _SPLIT_OF_CORPUS)
    if questions is None:
        raise InputError(f"There are no questions of {split} in {root}: neither of {' nor '.join(folders)}.")
    if corpus is None:
        raise InputError(f"There is no corpus in {root}: neither of {' nor '.join(CORPORA)}.")
    gallery = read_corpus(corpus, root)
    queries = tuple(read_questions(questions, frozenset(gallery.gallery)))
    return replace(gallery, queries=queries)


def read_questions(table: RecordTable, gallery: frozenset[str]) -> Iterator[Query]:
    """Questions in the old columns (`query`, `positive_passages`) or the new (`query_text`, `positive_document_ids`).

    Positives outside the gallery are left out. Where the table has answers, a question without one is asked all the
    same, and answered by no page (DPR's evaluation counts it so); where it has none, a positive is needed.
    """
    id_column, text = table.require(*QUERY_ID), table.require(*QUERY)
    answers, positives = table.optional("answers", "answer"), table.optional(*POSITIVES)
    columns = [name for name in (id_column, text, answers, positives) if name is not None]
    for where, row in table.rows(columns):
        own = read_answers(row.get(answers or ""))
        known = [id for id in document_ids(row.get(positives or "")) if id in gallery]
        if answers is None and not known:
            raise InputError(f"{where} has neither an answer nor a positive page of the corpus.")
        yield Query(str(row[id_column]), None, (str(row[text]),), dict.fromkeys(known, 1), answers=own)


def document_ids(value: Any) -> Iterator[str]:
    """The ids in a cell of either layout: `[{"docid": …}, …]` or `[…]`; an empty cell has none."""
    for item in value or ():
        yield str(item["docid"] if isinstance(item, Mapping) else item)


def _release(name: str, folders: Sequence[str], counts: Mapping[str, Mapping[str, int]]) -> Release:
    return Release(
        name=name,
        folder="wiki-ss",
        version="1",
        counts=counts,
        protocol=page_protocol(),
        metrics=ANSWER_METRICS,
        files=lambda root, split: _files(folders, root, split),
        read=lambda root, split, protocol: _read(folders, root, split),
        text_fields=("query",),
    )


_PAGES: Final = {"gallery entries": 1_267_874}

WIKI_SS: Final = (
    _release(
        "wiki-ss-nq",
        QUESTIONS,
        {"test": {"queries": 3610, **_PAGES}, "train": {"queries": 49_095, **_PAGES}},
    ),
    _release("wiki-ss-triviaqa", ("wiki-ss-triviaqa", "triviaqa"), {"test": _PAGES}),
)
"""`wiki-ss-nq`, and `wiki-ss-triviaqa`: any questions with answers over the same pages."""
