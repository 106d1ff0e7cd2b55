from collections import Counter

import pytest

from mmret.data import load_benchmark
from mmret.data.miniature_pages import (
    PageImages,
    PageQuestion,
    pages_of,
    questions_of,
    relevant_pages,
    training_page,
)
from mmret.data.miniature_pages.questions import KINDS, NAMED
from mmret.errors import InputError


def test_a_split_has_its_pages_and_questions_of_each_kind() -> None:
    benchmark = load_benchmark("miniature-pages", "val")
    assert len(benchmark.gallery) == 500
    assert Counter(query.attributes["kind"] for query in benchmark.queries) == dict.fromkeys(KINDS, 100)
    assert benchmark.gallery[0] == "val-00.pdf#0" and benchmark.gallery[-1] == "val-24.pdf#19"


def test_exactly_the_pages_that_answer_are_targets() -> None:
    benchmark, pages = load_benchmark("miniature-pages", "val"), pages_of("val")
    for query, question in zip(benchmark.queries, questions_of("val"), strict=True):
        assert query.texts == (question.text,)
        right = {id for id, page in pages.items() if all(fact in page.facts for fact in question.facts)}
        assert set(query.targets) == right != set()
        assert {fact[0] for fact in question.facts} <= set(NAMED[question.kind])


def test_questions_of_one_kind_are_a_benchmark() -> None:
    whole, part = load_benchmark("miniature-pages", "val"), load_benchmark("miniature-pages-layout", "val")
    assert part.queries == tuple(query for query in whole.queries if query.attributes["kind"] == "layout")
    assert part.gallery == whole.gallery
    with pytest.raises(
        InputError, match="no sound questions about the generated pages; there are text, layout, picture"
    ):
        load_benchmark("miniature-pages-sound", "val")
    with pytest.raises(InputError, match="no split 'train'; there are val, test"):
        load_benchmark("miniature-pages", "train")


def test_pictures_are_in_words_only_where_they_are_described() -> None:
    benchmark = load_benchmark("miniature-pages-picture", "val")
    assert benchmark.page_texts is not None
    layer, described = dict(benchmark.page_texts.read()), dict(benchmark.other_texts["described"].read())
    charted = [id for id, page in pages_of("val").items() if any(fact[0] == "chart" for fact in page.facts)]
    assert all(" chart" in described[id] and " chart" not in layer[id] for id in charted)
    assert all(described[id].startswith(layer[id]) for id in layer)


def test_images_are_drawn_when_they_are_read() -> None:
    images = PageImages(pages_of("val"), scale=2)
    assert images.read("val-00.pdf#3").size == (256, 256)
    assert images.stamp("val-00.pdf#3") == "v2"
    with pytest.raises(InputError, match=r"hold no 'val-99\.pdf#0'"):
        images.read("val-99.pdf#0")


def test_training_pages_are_a_stream_of_their_own() -> None:
    page, questions = training_page(7, "page", "0")
    assert (page, questions) == training_page(7, "page", "0") and len(questions) == 1
    assert page not in pages_of("val").values()
    assert page != training_page(8, "page", "0")[0] != training_page(8, "page", "1")[0]
    for number in range(200):
        page, (question,) = training_page(number, "page", "0")
        assert question.answered_by(page) and 1 <= len(question.facts) <= 4
    asked = [training_page(number, "text", "0")[1][0] for number in range(50)]
    assert {question.kind for question in asked} == {"text"}


def test_relevant_pages_of_a_batch() -> None:
    pages = [training_page(number, "block", "0")[0] for number in range(60)]
    word = next(iter(fact for fact in sorted(pages[0].facts) if fact[0] == "word"))
    (found,) = relevant_pages(
        [PageQuestion("text", "", frozenset([word]))], pages, [str(n) for n in range(60)]
    )
    assert found == {str(n) for n, page in enumerate(pages) if word in page.facts} and "0" in found
