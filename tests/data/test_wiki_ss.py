from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow.parquet import ParquetFile

from mmret.data import load_benchmark
from mmret.errors import InputError
from mmret.judging import evaluate_run
from mmret.retrieval.run import Run
from tests.data.page_layouts import PASSAGES, write_lines, write_parquet, write_wiki_ss


def test_questions_pages_and_texts(tmp_path: Path) -> None:
    found = load_benchmark("wiki-ss-nq", "test", write_wiki_ss(tmp_path))
    assert found.gallery == ("d0", "d1", "d2", "d3")
    assert found.answers == {"1": ("London",), "2": ("Zurich", "Zürich"), "3": ("Turing",)}
    assert found.judgements == {id: {"d0": 1} for id in "123"}
    assert found.page_texts is not None
    assert list(found.page_texts.read(["d3", "d0"])) == [("d0", PASSAGES[0]), ("d3", PASSAGES[3])]
    assert found.images.read("d3").size == (40, 30)


def test_no_image_is_read_or_decoded_to_load_and_match(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    by_batch, by_group = ParquetFile.iter_batches, ParquetFile.read_row_group

    def batches(self: Any, *options: Any, columns: list[str], **more: Any) -> Any:
        asked.extend(columns)
        return by_batch(self, *options, columns=columns, **more)

    def group(self: Any, *options: Any, columns: list[str], **more: Any) -> Any:
        asked.extend(columns)
        return by_group(self, *options, columns=columns, **more)

    monkeypatch.setattr(ParquetFile, "iter_batches", batches)
    monkeypatch.setattr(ParquetFile, "read_row_group", group)
    found = load_benchmark("wiki-ss-nq", "train", write_wiki_ss(tmp_path))
    assert found.page_texts is not None
    assert len(list(found.page_texts.read())) == 4
    assert {"docid", "text"} <= set(asked) and "image" not in asked
    found.images.read("d0")
    assert "image" in asked


def test_the_new_columns(tmp_path: Path) -> None:
    write_wiki_ss(tmp_path)
    (tmp_path / "wiki-ss-nq").rename(tmp_path / "old")
    rows = [
        {
            "query_id": "9",
            "query_text": "where?",
            "query_image": None,
            "positive_document_ids": ["d1", "gone"],
            "negative_document_ids": ["d2"],
        }
    ]
    write_parquet(tmp_path / "wiki-ss-nq-new/data/test-00000-of-00001.parquet", rows)
    found = load_benchmark("wiki-ss-nq", "test", tmp_path)
    assert [(query.id, query.texts, query.targets, query.answers) for query in found.queries] == [
        ("9", ("where?",), {"d1": 1}, ())
    ]
    write_parquet(
        tmp_path / "wiki-ss-nq-new/data/test-00000-of-00001.parquet",
        [rows[0] | {"positive_document_ids": ["gone"]}],
    )
    with pytest.raises(InputError, match="row 0 has neither an answer nor a positive page of the corpus"):
        load_benchmark("wiki-ss-nq", "test", tmp_path)


def test_a_question_without_answers_counts_and_is_answered_by_nothing(tmp_path: Path) -> None:
    write_wiki_ss(tmp_path)
    asked = [
        {"id": "1", "query": "born?", "answers": ["London"]},
        {"id": "2", "query": "why?", "answers": []},
    ]
    write_lines(tmp_path / "wiki-ss-triviaqa/test.jsonl", asked)
    found = load_benchmark("wiki-ss-triviaqa", "test", tmp_path)
    scores = np.zeros((2, 1), dtype=np.float32)
    run = Run(("1", "2"), ("d0",), np.zeros((2, 1), dtype=np.int64), scores)
    evaluated = evaluate_run(run, found, metrics=["answer_accuracy@1"])
    assert evaluated.per_query["answer_accuracy@1"].tolist() == [1, 0]
    assert evaluated.means == {"answer_accuracy@1": 0.5}


def test_triviaqa_s_aliases(tmp_path: Path) -> None:
    found = load_benchmark("wiki-ss-triviaqa", "test", write_wiki_ss(tmp_path))
    assert found.answers["2"] == ("Zurich", "Zürich")
    write_lines(tmp_path / "wiki-ss-triviaqa/test.jsonl", [{"id": "1", "query": "?", "answers": "Paris"}])
    assert load_benchmark("wiki-ss-triviaqa", "test", tmp_path).answers == {"1": ("Paris",)}
