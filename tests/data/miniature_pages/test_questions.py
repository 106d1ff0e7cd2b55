import random

from mmret.data.miniature_pages.page import Block, Icon, Page, Paragraph, Style
from mmret.data.miniature_pages.questions import FRAMES, WORD_FRAMES, choose_facts, phrase, say

STYLE = Style("sans", 9)
PAGE = Page(
    128,
    ("harbour",),
    STYLE,
    (Block("top left", Paragraph((("violin", "wagon"),), STYLE)), Block("top right", Icon("star", "orange"))),
    (255, 255, 255),
)


def test_facts_are_said_in_words() -> None:
    rng = random.Random(0)
    assert phrase(("word", "violin"), rng) == "violin"
    assert phrase(("at", "top left", "violin"), rng) == "violin at the top left"
    assert phrase(("icon at", "left", "orange", "star"), rng) == "an orange star at the left"
    assert {phrase(("title", "harbour"), rng) for _ in range(20)} == {
        "harbour in the title",
        "a title with harbour",
    }


def test_a_question_joins_its_facts() -> None:
    facts = [("word", "violin"), ("word", "wagon"), ("word", "harbour")]
    said = {say(facts, random.Random(seed)) for seed in range(50)}
    assert said == {frame.format("violin, wagon and harbour") for frame in WORD_FRAMES}
    picture = {say([("icon", "red", "star")], random.Random(seed)) for seed in range(50)}
    assert picture == {frame.format("a red star") for frame in FRAMES}


def test_a_question_names_each_thing_once() -> None:
    for seed in range(30):
        facts = choose_facts(PAGE, "layout", 4, random.Random(seed))
        assert sorted(fact[-1] for fact in facts) == ["harbour", "violin", "wagon"]
        assert set(facts) <= PAGE.facts


def test_what_a_page_lacks_is_not_asked() -> None:
    words = Page(128, ("harbour",), STYLE, (), (255, 255, 255))
    assert choose_facts(words, "picture", 2, random.Random(0)) == ()
    assert choose_facts(PAGE, "picture", 4, random.Random(0))[0][-2:] == ("orange", "star")
