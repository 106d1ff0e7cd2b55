import random
from itertools import chain

import pytest

from mmret.data.miniature_pages.fonts import width
from mmret.data.miniature_pages.page import Chart, Icon, Paragraph, Table
from mmret.data.miniature_pages.sample import SIDE, SMALL_SIDE, Stage, box_of, sample_page

PAGES = [sample_page(random.Random(seed)) for seed in range(200)]


def test_the_same_seed_gives_the_same_page() -> None:
    assert sample_page(random.Random(3)) == PAGES[3] != PAGES[4]


@pytest.mark.parametrize(
    ("stage", "side", "most"), [("word", SMALL_SIDE, 1), ("words", SMALL_SIDE, 4), ("block", SMALL_SIDE, 24)]
)
def test_stages_lead_from_one_word_to_a_block(stage: Stage, side: int, most: int) -> None:
    pages = [sample_page(random.Random(seed), stage) for seed in range(100)]
    counts = [sum(fact[0] == "word" for fact in page.facts) for page in pages]
    assert {page.side for page in pages} == {side}
    assert 1 <= min(counts) <= max(counts) <= most
    assert all(len(page.blocks) == 1 and page.blocks[0].place == "whole" for page in pages)
    assert max(counts) > 1 or stage == "word"
    assert len({page.origin for page in pages}) > 50


def test_whole_pages_begin_at_their_corner() -> None:
    assert {page.origin for page in PAGES} == {(0, 0)}


def test_a_whole_page_has_a_paragraph_and_no_kind_of_picture_beyond_measure() -> None:
    for page in PAGES:
        kinds = [type(block.content) for block in page.blocks]
        assert page.side == SIDE and page.title
        assert Paragraph in kinds
        assert kinds.count(Table) <= 1 and kinds.count(Chart) <= 1
        assert all(block.place in ("top left", "top right", "bottom left", "bottom right")
                   for block in page.blocks if isinstance(block.content, Icon))  # fmt: skip
    assert {Table, Chart, Icon} <= {type(block.content) for page in PAGES for block in page.blocks}


def test_no_word_stands_on_a_page_twice() -> None:
    for page in PAGES:
        words = [*page.title, *chain.from_iterable(block.content.words for block in page.blocks)]
        assert len(words) == len(set(words))


def test_text_fits_into_its_block() -> None:
    for page in PAGES:
        for block in page.blocks:
            if isinstance(block.content, Paragraph):
                box, style = box_of(block.place, page.side, titled=True), block.content.style
                longest = max(width(" ".join(line), style.font, style.size) for line in block.content.lines)
                alone = max(len(line) for line in block.content.lines) == 1
                assert longest <= box.width or alone
                assert len(block.content.lines) * (style.size + 2) <= box.height
