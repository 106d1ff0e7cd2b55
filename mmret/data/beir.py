"""Retrieval sets as three tables, `corpus`, `queries` and `qrels` (BEIR, ViDoRe, MTEB), or as rows of query and page.

The tables come from a folder (`folder_tables`) or the Hugging Face hub (`hub_tables`); from there on nothing differs.

| table | columns |
|---|---|
| corpus | `corpus-id` (or `_id`, `docid`), `image` and/or `text` (and `title`) |
| queries | `query-id` (or `_id`), `query` (or `text`), optionally `language`, `answers` |
| qrels | `query-id`, `corpus-id`, `score`: they say which queries are the split's; a set without qrels has `answers` |
| rows | `query` (empty: a page that nothing asks for), `image`, `image_filename` |
"""

import hashlib
import json
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from mmret.data import records
from mmret.data.answers import read_answers
from mmret.data.benchmark import Benchmark, Query
from mmret.data.images import FileImages
from mmret.data.protocol import page_protocol
from mmret.data.published import Annotations
from mmret.data.record_tables import RecordTable, find_table
from mmret.data.table_images import TableImages
from mmret.errors import InputError, InputWarning, missing_extra

Tables = Callable[[str, str], RecordTable | None]
"""Gives the table of a name ("corpus", "queries", "qrels", or "rows") for a split, or None."""

METRICS: Final = ("ndcg@5", "ndcg@10", "recall@5", "recall@10")
ANSWER_METRICS: Final = tuple(f"answer_accuracy@{k}" for k in (1, 5, 10, 20))

CORPUS_ID: Final = ("corpus-id", "corpus_id", "_id", "docid", "doc-id", "id")
QUERY_ID: Final = ("query-id", "query_id", "_id", "qid", "id")
QUERY: Final = ("query", "text", "query_text", "question")
"""Names of columns, old and new."""

_TEXT: Final = ("text", "markdown", "text_description")
_ROWS: Final = "rows"


def folder_tables(root: Path, names: Mapping[str, str] | None = None) -> Tables:
    """The tables below a folder; `names` says where one has another name (see `record_tables.find_table`).

    The rows of query and page are looked for in `rows` and in `data`, where the hub has them.
    """

    def find(name: str, split: str) -> RecordTable | None:
        named = (names or {}).get(name, name)
        return find_table(root, named, split) or (find_table(root, "data", split) if name == _ROWS else None)

    return find


@dataclass(frozen=True)
class ColumnTexts:
    """The texts of a corpus in one column or several of its table, read without the other columns; a `TextSource`.

    Several are joined with a space, as BEIR joins title and text.
    """

    table: RecordTable
    id_column: str
    columns: tuple[str, ...]

    def read(self, ids: Collection[str] | None = None) -> Iterator[tuple[str, str]]:
        """Yield (id, text); an id that comes again is passed over."""
        seen: set[str] = set()
        for _, row in self.table.rows((self.id_column, *self.columns)):
            id = str(row[self.id_column])
            if (ids is None or id in ids) and id not in seen:
                seen.add(id)
                yield id, " ".join(str(row[name]) for name in self.columns if row[name])


def read_tables(tables: Tables, split: str, root: Path | None = None) -> Annotations:
    """Read the split of a set in either form.

    Args:
        tables: Where its tables are.
        split: Whose queries are asked.
        root: What paths of images in tables are below.

    Raises:
        InputError: Tables or columns are missing; ids that are nowhere.
    """
    corpus = tables("corpus", split)
    if corpus is not None:
        return _three_tables(corpus, tables, split, root)
    rows = tables(_ROWS, split)
    if rows is None or rows.optional("image_filename") is None:
        raise InputError(
            "There is neither a table corpus nor one of rows with query, image and image_filename "
            f"for the split {split!r}{f' in {root}' if root else ''}; data/README.md shows the layouts."
        )
    return read_rows(rows, root)


def _three_tables(corpus: RecordTable, tables: Tables, split: str, root: Path | None) -> Annotations:
    gallery = read_corpus(corpus, root)
    queries, qrels = tables("queries", split), tables("qrels", split) or tables("default", split)
    if queries is None:
        raise InputError(f"There is no table queries beside {corpus.paths[0]}.")
    asked = tuple(_queries(queries, None if qrels is None else _judgements(qrels)))
    if qrels is None and not any(query.answers for query in asked):
        raise InputError(
            f"There is no table qrels beside {corpus.paths[0]}, and no answers in {queries.paths[0]}."
        )
    return replace(gallery, queries=asked)


def read_corpus(table: RecordTable, root: Path | None = None) -> Annotations:
    """A corpus alone: its images with their texts if it has any, or else its texts. No image is decoded."""
    id_column = table.require(*CORPUS_ID)
    ids = [str(row[id_column]) for _, row in table.rows([id_column])]
    image, text, title = table.optional("image"), table.optional(*_TEXT), table.optional("title")
    words = tuple(name for name in (title, text) if name is not None)
    texts = ColumnTexts(table, id_column, words) if text is not None else None
    if image is not None:
        images = table_images(table, image, {id: row for row, id in enumerate(ids)}, root)
        return Annotations((), tuple(ids), images, page_texts=texts)
    if texts is None:
        raise InputError(f"{table.paths[0]} has neither a column 'image' nor one of {', '.join(_TEXT)}.")
    return Annotations((), tuple(ids), FileImages({}), texts=dict(texts.read()), page_texts=texts)


def table_images(table: RecordTable, column: str, rows: Mapping[str, int], root: Path | None) -> TableImages:
    """The images of a column; `root` counts where the cells are paths."""
    return TableImages(table, column, rows, root if table.holds_text(column) else None)


def _queries(table: RecordTable, judged: Mapping[str, Mapping[str, int]] | None) -> Iterator[Query]:
    """The judged queries, for a table may hold those of other splits too; all of them where there are no judgements."""
    id_column, text = table.require(*QUERY_ID), table.require(*QUERY)
    language, answers = table.optional("language"), table.optional("answers")
    columns = [name for name in (id_column, text, language, answers) if name is not None]
    for where, row in table.rows(columns):
        id = str(row[id_column])
        if judged is None or id in judged:
            attributes = {"language": str(row[language])} if language and row[language] else {}
            words, own = records.field(row, text, str, where), read_answers(row.get(answers or ""))
            yield Query(id, None, (words,), (judged or {}).get(id, {}), attributes=attributes, answers=own)


def _judgements(table: RecordTable) -> dict[str, dict[str, int]]:
    """Query id → corpus id → score of 1 or more. A query whose scores are all 0 can be answered by nothing."""
    query, document = table.require("query-id", "query_id"), table.require("corpus-id", "corpus_id")
    score = table.optional("score")
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for where, row in table.rows([name for name in (query, document, score) if name is not None]):
        grade = _grade(row[score], where) if score else 1
        found[str(row[query])] |= {str(row[document]): grade} if grade > 0 else {}
    hopeless = [name for name, own in found.items() if not own]
    if hopeless:
        warnings.warn(
            f"{table.paths[0]} judges nothing relevant for {len(hopeless):,} queries, such as {hopeless[0]!r}; "
            "they are left out.",
            InputWarning,
            stacklevel=2,
        )
    return {name: own for name, own in found.items() if own}


def _grade(value: Any, where: str) -> int:
    try:
        grade = float(value)
    except (TypeError, ValueError):
        grade = 0.5
    if grade != int(grade):
        raise InputError(f"{where}: the score is {value!r}, where a whole number is needed.")
    return int(grade)


def read_rows(table: RecordTable, root: Path | None = None) -> Annotations:
    """Rows of query and page (ViDoRe v1's original form).

    A page is one file name, a query one text: where several rows ask the same, all of their pages are relevant, as in
    the same sets' three tables. (The older evaluator of `vidore-benchmark` counts the last of these pages only.)
    """
    name, query, image = table.require("image_filename"), table.require("query"), table.require("image")
    rows: dict[str, int] = {}
    asked: dict[str, dict[str, int]] = defaultdict(dict)
    for number, (where, row) in enumerate(table.rows([name, query])):
        page = records.field(row, name, str, where)
        rows.setdefault(page, number)
        if row[query]:
            asked[row[query]][page] = 1
    queries = tuple(
        Query(f"{number}", None, (text,), own) for number, (text, own) in enumerate(asked.items())
    )
    text = table.optional(*_TEXT)
    texts = ColumnTexts(table, name, (text,)) if text else None
    return Annotations(queries, tuple(rows), table_images(table, image, rows, root), page_texts=texts)


def table_files(tables: Tables, names: Sequence[str], root: Path, split: str) -> tuple[Path, ...]:
    """The files of a set's tables; for a table that is not there, the name that the hub would give it."""
    found = {name: tables(name, split) for name in names}
    files = [
        table.paths if table else (root / name / f"{split}-00000-of-00001.parquet",)
        for name, table in found.items()
    ]
    return tuple(path for paths in files for path in paths)


def load_tables(
    name: str, tables: Tables, split: str, root: Path | None = None, language: str = ""
) -> Benchmark:
    """A set that no catalogue knows, as a benchmark; its version is a digest of its ids, queries and judgements.

    Args:
        name: Of the benchmark.
        tables: Where its tables are.
        split: Its split.
        root: What paths of images in tables are below.
        language: Only the queries of this language, in a set whose queries say it.
    """
    found = read_tables(tables, split, root)
    queries = tuple(
        query for query in found.queries if not language or query.attributes.get("language") == language
    )
    if not queries:
        has = (
            ", ".join(sorted({str(query.attributes.get("language")) for query in found.queries}))
            or "no queries"
        )
        raise InputError(
            f"{name} {split} has no query{f' of language {language!r}' if language else ''}; it has {has}."
        )
    return Benchmark(
        name=f"{name}-{language}" if language else name,
        version=_digest(found.gallery, queries),
        split=split,
        images=found.images,
        gallery=found.gallery,
        queries=queries,
        protocol=page_protocol(),
        metrics=METRICS if all(query.targets for query in queries) else ANSWER_METRICS,
        texts=found.texts,
        page_texts=found.page_texts,
    )


def _digest(gallery: Iterable[str], queries: Iterable[Query]) -> str:
    asked = [[query.id, *query.texts, dict(query.targets), query.answers] for query in queries]
    content = json.dumps([list(gallery), asked], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def hub_tables(name: str) -> Tables:
    """The tables of a data set of the Hugging Face hub (or of a local folder in its layout), through `datasets`.

    `datasets` fetches and keeps them as arrow files, which are then read in place. `name` may end in `@REVISION`; rows
    of query and page are the set's default configuration.
    """
    path, _, revision = name.partition("@")
    return partial(_hub_table, path, revision or None)


def _hub_table(path: str, revision: str | None, name: str, split: str) -> RecordTable | None:
    try:
        import datasets
    except ImportError:
        raise missing_extra("A data set of the hub", "datasets", "hub") from None
    try:
        configs = datasets.get_dataset_config_names(path, revision=revision)
        config = name if name in configs else None
        if config is None and (name != _ROWS or set(configs) & {"corpus", "queries", "qrels"}):
            return None
        # A corpus may be in one part whatever the split of its queries.
        splits = datasets.get_dataset_split_names(path, config, revision=revision)
        chosen = split if split in splits or len(splits) > 1 else splits[0]
        loaded = datasets.load_dataset(path, config, split=chosen, revision=revision)
    except (OSError, ValueError) as error:  # no network, no such set, no such split
        raise InputError(f"The data set {path} cannot be had ({str(error).splitlines()[0]}).") from None
    return RecordTable([file["filename"] for file in loaded.cache_files])
