"""Answers as tables hold them, and whether a text has one, as open-domain question answering decides it.

The rule is that of DPR's `has_answer` (Karpukhin et al., EMNLP 2020), on which Wiki-SS, NQ and TriviaQA are reported:
both are brought to Unicode's NFD, cut into tokens (runs of letters, digits and marks, or one other character that is
neither space nor control), lowered, and the tokens of an answer must stand in the text side by side.
"""

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Final

import regex

_TOKEN: Final = regex.compile(r"[\p{L}\p{N}\p{M}]+|[^\p{Z}\p{C}]")


def read_answers(cell: object) -> tuple[str, ...]:
    """The answers in a table's cell: a list of them, one alone, or TriviaQA's object with its aliases.

    >>> read_answers({"value": "Paris", "aliases": ["Paris", "Lutetia"]}), read_answers("Paris"), read_answers(None)
    (('Paris', 'Lutetia'), ('Paris',), ())
    """
    if isinstance(cell, Mapping):
        cell = cell.get("aliases") or cell.get("value")
    several = cell if isinstance(cell, list | tuple) else (cell,)
    return tuple(str(answer) for answer in several if answer not in (None, ""))


def matching_form(text: str) -> str:
    """The lowered tokens of a text, each with a space before and behind it.

    No token holds a space, so that one list of tokens stands in another exactly where its form does: a search for
    words becomes one search for a string.
    """
    tokens = _TOKEN.findall(unicodedata.normalize("NFD", text))
    return f" {' '.join(tokens).lower()} "


def answer_forms(answers: Iterable[str]) -> tuple[str, ...]:
    """The forms of a question's answers, those without any token left out.

    DPR's code finds an answer without tokens in every text; here it is found in none.
    """
    forms = (matching_form(answer) for answer in answers)
    return tuple(dict.fromkeys(form for form in forms if form.strip()))


def has_answer(text: str, answers: Iterable[str]) -> bool:
    """Whether the text holds any of the answers.

    >>> has_answer("Born in São Paulo (1974).", ["sao paulo", "são paulo"])
    True
    >>> has_answer("1974a", ["1974"])
    False
    """
    form = matching_form(text)
    return any(answer in form for answer in answer_forms(answers))
