from mmret.data.miniature_pages.page import WORDS, Block, Chart, Icon, Page, Paragraph, Style, Table

STYLE = Style("sans", 9)
PAGE = Page(
    side=128,
    title=("harbour",),
    title_style=STYLE,
    blocks=(
        Block("top left", Paragraph((("violin", "the"), ("wagon",)), STYLE)),
        Block("top right", Icon("star", "red")),
        Block("bottom", Table((("lemon", "12", "otter", "34"),), STYLE)),
    ),
    paper=(255, 255, 255),
)
CHART = Block("bottom right", Chart("pie", "blue", "zebra", (0.5, 1.0), STYLE))


def test_the_lexicon_has_no_word_twice() -> None:
    assert len(set(WORDS)) == len(WORDS) == 70


def test_a_title_is_words_in_a_role() -> None:
    assert {("word", "harbour"), ("title", "harbour")} <= PAGE.facts
    assert ("paragraph", "harbour") not in PAGE.facts


def test_a_block_gives_its_words_their_role_and_place() -> None:
    assert {("word", "violin"), ("paragraph", "violin")} <= PAGE.facts
    assert {("at", "top left", "wagon"), ("at", "top", "wagon"), ("at", "left", "wagon")} <= PAGE.facts
    assert ("table", "lemon") in PAGE.facts and ("at", "bottom", "otter") in PAGE.facts


def test_fillers_and_numbers_are_not_asked_for() -> None:
    values = {value for fact in PAGE.facts for value in fact[1:]}
    assert not values & {"the", "12", "34"}


def test_pictures_are_facts_and_no_text() -> None:
    assert {("icon", "red", "star"), ("icon at", "right", "red", "star")} <= PAGE.facts
    assert set(CHART.facts) >= {
        ("chart", "blue", "pie"),
        ("chart at", "bottom right", "blue", "pie"),
        ("chart label", "zebra"),
    }
    assert "star" not in PAGE.text


def test_a_text_layer_is_read_in_order() -> None:
    assert PAGE.text == "harbour\nviolin the\nwagon\nlemon 12 otter 34"
    assert PAGE.text_with_pictures == f"{PAGE.text}\nred star"
    assert CHART.alternative_text == "blue pie chart"
