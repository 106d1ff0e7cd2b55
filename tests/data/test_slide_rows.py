"""SlideVQA in its authors' layout, as a benchmark and to train on."""

from pathlib import Path

import pytest

from mmret.data import load_benchmark
from mmret.data.page_sources import open_query_pages
from mmret.errors import InputError
from tests.data.page_layouts import SLIDES, slide_row, write_slide_rows
from tests.data.training_pages import shade_of


def test_questions_of_a_split_over_the_slides_of_all(tmp_path: Path) -> None:
    benchmark = load_benchmark("slidevqa", "test", root=write_slide_rows(tmp_path))
    assert {query.id: dict(query.targets) for query in benchmark.queries} == {
        "4": {"sea/page_1": 1}, "5": {"sea/page_2": 1, "sea/page_3": 1},
    }  # fmt: skip
    assert [query.texts for query in benchmark.queries] == [("what of 4?",), ("what of 5?",)]
    wanted = {
        f"{deck}/page_{place}": number for deck, own in SLIDES.items() for place, number in enumerate(own, 1)
    }
    assert sorted(benchmark.gallery) == sorted(wanted)
    assert {id: shade_of(benchmark.images.read(id)) for id in wanted} == wanted
    assert benchmark.metrics == ("ndcg@10", "recall@10")


def test_a_deck_s_other_slides_are_the_negatives_of_its_questions(tmp_path: Path) -> None:
    data = open_query_pages(f"slidevqa:{write_slide_rows(tmp_path)}")
    assert [(query.positives, query.negatives, query.group) for query in data.queries] == [
        (("sun-2/page_2",), ("sun-2/page_1", "sun-2/page_3"), "sun-2"),
        (("sun-2/page_1", "sun-2/page_3"), ("sun-2/page_2",), "sun-2"),
        (("moon/page_3",), ("moon/page_2", "moon/page_1"), "moon"),
    ]
    assert len(data.pages.ids) == 6  # the train split's alone
    assert shade_of(data.pages.read("moon/page_2")) == 4


@pytest.mark.parametrize("evidence", [[], [4]])
def test_evidence_that_is_no_slide_is_named(evidence: list[int], tmp_path: Path) -> None:
    root = write_slide_rows(tmp_path, slide_row("6", "sun-2", evidence))
    with pytest.raises(InputError, match=r"row 2: evidence_pages is .*, which names no slide of sun-2\."):
        open_query_pages(f"slidevqa:{root}")


def test_a_split_that_is_not_there_is_missed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="slidevqa has no split 'dev'"):
        load_benchmark("slidevqa", "dev", root=write_slide_rows(tmp_path))
    (tmp_path / "data" / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(InputError, match="of the split train, where test is asked for"):
        load_benchmark("slidevqa", "test", root=tmp_path)
