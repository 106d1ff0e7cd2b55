import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mmret.data import load_benchmark
from mmret.data.beir import ANSWER_METRICS, METRICS, hub_tables, read_tables
from mmret.errors import InputError
from tests.data.page_layouts import (
    QUESTIONS,
    tables,
    write_arrow,
    write_image_folder,
    write_lines,
    write_parquet,
    write_rows,
    write_tables,
)

RIGHT = {id: {f"{page}": grade for page, grade in right.items()} for id, _, right in QUESTIONS}


def write_saved(root: Path) -> Path:
    """As `datasets` saves a dictionary of splits."""
    for name, rows in tables().items():
        write_arrow(root / name / "test" / "data-00000-of-00001.arrow", rows)
    return root


@pytest.mark.parametrize("write", [write_tables, write_image_folder, write_saved])
def test_three_tables_are_one_benchmark_in_every_layout(
    write: Callable[[Path], Path], tmp_path: Path
) -> None:
    found = load_benchmark(f"tables:{write(tmp_path / 'set')}", "test")
    assert (found.name, found.split, found.metrics) == ("set", "test", METRICS)
    assert found.gallery == tuple(f"{number}" for number in range(16))
    assert found.judgements == RIGHT
    assert [query.texts[0] for query in found.queries] == [text for _, text, _ in QUESTIONS]
    assert found.images.read("7").mode == "RGB"


def test_the_version_follows_queries_and_judgements(tmp_path: Path) -> None:
    first, again = (load_benchmark(f"tables:{write_tables(tmp_path / name)}", "test") for name in "ab")
    assert first.version == again.version
    qrels = tmp_path / "b/qrels/test-00000-of-00001.parquet"
    write_parquet(qrels, tables()["qrels"][:-1])
    assert load_benchmark(f"tables:{tmp_path / 'b'}", "test").version != first.version


def test_a_corpus_may_be_texts(tmp_path: Path) -> None:
    write_lines(
        tmp_path / "corpus.jsonl",
        [{"_id": "1", "title": "Discs", "text": "are round"}, {"_id": "2", "title": "", "text": "b"}],
    )
    write_lines(
        tmp_path / "queries.jsonl", [{"_id": "q", "text": "round?"}, {"_id": "of train", "text": "no"}]
    )
    write_lines(tmp_path / "qrels/test.jsonl", [{"query-id": "q", "corpus-id": "1", "score": 1}])
    found = load_benchmark(f"tables:{tmp_path}", "test")
    assert found.texts == {"1": "Discs are round", "2": "b"}
    assert [query.id for query in found.queries] == ["q"]
    assert found.page_texts is not None
    assert list(found.page_texts.read(["1"])) == [("1", "Discs are round")]


def test_answers_stand_in_for_qrels(tmp_path: Path) -> None:
    write_lines(tmp_path / "corpus.jsonl", [{"docid": "1", "text": "in Paris"}])
    write_lines(tmp_path / "queries.jsonl", [{"query_id": 7, "query": "where?", "answers": ["Paris"]}])
    found = load_benchmark(f"tables:{tmp_path}", "test")
    assert (found.answers, found.metrics) == ({"7": ("Paris",)}, ANSWER_METRICS)


def test_one_answer_is_a_word_and_a_question_without_any_is_asked_all_the_same(tmp_path: Path) -> None:
    write_lines(tmp_path / "corpus.jsonl", [{"docid": "1", "text": "in Paris"}])
    asked = [
        {"_id": "7", "question": "where?", "answers": "Paris"},
        {"_id": "8", "question": "when?", "answers": []},
    ]
    write_lines(tmp_path / "queries.jsonl", asked)
    found = load_benchmark(f"tables:{tmp_path}", "test")
    assert found.answers == {"7": ("Paris",), "8": ()}
    write_lines(tmp_path / "queries.jsonl", asked[1:])
    with pytest.raises(InputError, match=r"There is no table qrels beside .*, and no answers in .*queries"):
        load_benchmark(f"tables:{tmp_path}", "test")


def test_qrels_say_which_queries_are_the_split_s_whatever_has_answers(tmp_path: Path) -> None:
    write_lines(tmp_path / "corpus.jsonl", [{"docid": "1", "text": "in Paris"}])
    asked = [{"_id": id, "query": "where?", "answers": ["Paris"]} for id in ("of test", "of train")]
    write_lines(tmp_path / "queries.jsonl", asked)
    write_lines(tmp_path / "qrels/test.jsonl", [{"query-id": "of test", "corpus-id": "1", "score": 1}])
    found = load_benchmark(f"tables:{tmp_path}", "test")
    assert [query.id for query in found.queries] == ["of test"]
    assert (found.judgements, found.metrics) == ({"of test": {"1": 1}}, METRICS)


def test_rows_of_query_and_page(tmp_path: Path) -> None:
    found = load_benchmark(f"tables:{write_rows(tmp_path / 'docvqa')}", "test")
    assert found.gallery == ("a.png", "b.png", "c.png", "d.png")
    assert [(query.texts, dict(query.targets)) for query in found.queries] == [
        (("What is red?",), {"a.png": 1, "d.png": 1}),
        (("What is green?",), {"b.png": 1}),
        (("What is wide?",), {"a.png": 1}),
    ]
    assert found.images.read("d.png").getpixel((0, 0)) == (30, 200, 90)
    assert found.page_texts is not None
    assert dict(found.page_texts.read())["a.png"] == "about a.png"


def test_one_language_of_several(tmp_path: Path) -> None:
    write_tables(tmp_path / "set")
    rows = tables()["queries"]
    write_parquet(
        tmp_path / "set/queries/test-00000-of-00001.parquet", [*rows[:2], rows[2] | {"language": "french"}]
    )
    found = load_benchmark(f"tables:{tmp_path / 'set'}?language=french", "test")
    assert (found.name, [query.id for query in found.queries]) == ("set-french", ["q2"])
    with pytest.raises(
        InputError, match=r"set test has no query of language 'dutch'; it has english, french"
    ):
        load_benchmark(f"tables:{tmp_path / 'set'}?language=dutch", "test")


def test_scores_of_zero_judge_nothing_relevant(tmp_path: Path) -> None:
    write_tables(tmp_path / "set")
    qrels = tmp_path / "set/qrels/test-00000-of-00001.parquet"
    write_parquet(qrels, [row | {"score": 0 if row["query-id"] == "q0" else 1} for row in tables()["qrels"]])
    with pytest.warns(UserWarning, match=r"judges nothing relevant for 1 queries, such as 'q0'"):
        found = load_benchmark(f"tables:{tmp_path / 'set'}", "test")
    assert "q0" not in found.judgements
    write_parquet(qrels, [row | {"score": 0.5} for row in tables()["qrels"]])
    with pytest.raises(InputError, match=r"the score is 0\.5, where a whole number is needed"):
        load_benchmark(f"tables:{tmp_path / 'set'}", "test")


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no folder"):
        load_benchmark(f"tables:{tmp_path / 'none'}", "test")
    with pytest.raises(
        InputError, match="neither a table corpus nor one of rows with query, image and image_filename"
    ):
        load_benchmark(f"tables:{tmp_path}", "test")
    write_parquet(tmp_path / "corpus.parquet", tables()["corpus"])
    with pytest.raises(InputError, match="There is no table queries beside"):
        load_benchmark(f"tables:{tmp_path}", "test")
    write_parquet(tmp_path / "queries.parquet", tables()["queries"])
    with pytest.raises(InputError, match=r"There is no table qrels beside .*, and no answers in"):
        load_benchmark(f"tables:{tmp_path}", "test")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """`datasets` with a cache of its own."""
    datasets = pytest.importorskip("datasets", reason="the hub needs datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path


def test_the_hub_gives_the_same_as_a_folder(no_network: Path) -> None:
    root = write_tables(no_network / "set")
    configs = [
        {"config_name": name, "data_files": [{"split": "test", "path": f"{name}/*.parquet"}]}
        for name in tables()
    ]
    (root / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n")
    by_hub, by_folder = (load_benchmark(f"{kind}:{root}", "test") for kind in ("hub", "tables"))
    assert by_hub.version == by_folder.version
    assert by_hub.judgements == RIGHT
    assert by_hub.images.read("7").tobytes() == by_folder.images.read("7").tobytes()


def test_the_hub_s_rows_of_query_and_page(no_network: Path) -> None:
    found = read_tables(hub_tables(str(write_rows(no_network / "docvqa"))), "test")
    assert found.gallery == ("a.png", "b.png", "c.png", "d.png")
    assert len(found.queries) == 3


def test_a_set_that_the_hub_does_not_have(no_network: Path) -> None:
    with pytest.raises(InputError, match="The data set nobody/nothing cannot be had"):
        load_benchmark("hub:nobody/nothing", "test")
