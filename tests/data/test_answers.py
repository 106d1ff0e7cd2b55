import unicodedata
from collections.abc import Sequence

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from mmret.data.answers import has_answer, read_answers


def tokens(text: str) -> list[str]:
    """DPR's tokens, lowered one by one."""
    found = regex.finditer(r"([\p{L}\p{N}\p{M}]+)|([^\p{Z}\p{C}])", unicodedata.normalize("NFD", text))
    return [match.group().lower() for match in found]


def by_tokens(text: str, answers: Sequence[str]) -> bool:
    """Whether the tokens of an answer stand side by side among the text's, as DPR looks for them."""
    words = tokens(text)
    for answer in map(tokens, answers):
        starts = range(len(words) - len(answer) + 1)
        if answer and any(words[start : start + len(answer)] == answer for start in starts):
            return True
    return False


WORDS = st.sampled_from(
    [
        "a",
        "b",
        "ab",
        "É",
        "e\u0301",
        "ΟΔΟΣ",
        "οδος",
        "İ",
        "1,000",
        ".",
        "-",
        "ﬁ",
        "\u200b",
        "x\u00a0y",
        "东京",
        "c’est",
    ]
)
TEXTS = st.lists(WORDS, max_size=8).map(" ".join) | st.text(max_size=12)


@given(TEXTS, st.lists(TEXTS, max_size=3))
def test_it_agrees_with_a_search_of_token_lists(text: str, answers: list[str]) -> None:
    assert has_answer(text, answers) == by_tokens(text, answers)


@pytest.mark.parametrize(
    ("text", "answer", "found"),
    [
        ("It was in 1974.", "1974", True),
        ("It was in 19745.", "1974", False),
        ("the U.S. of A", "u. s.", True),
        ("the US of A", "U.S.", False),
        ("Zu\u0308rich", "Zürich", True),
        ("Zurich", "Zürich", False),
        ("New   York\nCity", "new york city", True),
        ("New, York", "new york", False),
        ("anything", " ", False),
        ("", "a", False),
    ],
)
def test_what_counts_as_an_answer(text: str, answer: str, found: bool) -> None:
    assert has_answer(text, [answer]) is found


@pytest.mark.parametrize(
    ("cell", "answers"),
    [
        (["Paris", "Lutetia"], ("Paris", "Lutetia")),
        ("Paris", ("Paris",)),
        (1974, ("1974",)),
        ({"value": "Paris", "aliases": ["Lutetia"]}, ("Lutetia",)),
        ({"value": "Paris", "aliases": []}, ("Paris",)),
        ([], ()),
        (["", None], ()),
        ("", ()),
        (None, ()),
    ],
)
def test_cells_of_every_layout_hold_answers(cell: object, answers: tuple[str, ...]) -> None:
    assert read_answers(cell) == answers
