"""A prompt with places for a pseudo-word, held by position.

Every pseudo-word method (Pic2Word, SEARLE, LinCIR) writes a sentence such as "a photo of $ that is red" and
replaces the token embedding of the placeholder. Searching a tokenised caption for the placeholder's id would
also hit "it costs $5", so here a prompt is a tuple in which the place of the word is a value of its own.
"""

import re
from collections.abc import Sequence
from enum import Enum
from typing import Final, Literal

from mmret.errors import InputError


class _Word(Enum):
    """The one-member enumeration behind `WORD`: it pickles, compares by identity and prints well."""

    WORD = "{word}"

    def __repr__(self) -> str:
        return "WORD"


WORD: Final = _Word.WORD
"""The place of a pseudo-word in a `Prompt`."""

Prompt = tuple[str | Literal[_Word.WORD], ...]
"""Text and pseudo-word places in reading order, e.g. `("a photo of ", WORD, " that is red")`."""

_FIELD = re.compile(r"\{(word|text)\}")


def fill(template: str, text: str = "") -> Prompt:
    """Put `text` into a template and keep the places of the pseudo-word.

    `template` holds `{word}` (any number of times, also none) and `{text}`; everything else in it, and
    everything in `text` (also "$", "*" or "{word}"), stays text.
    """
    pieces: list[str | Literal[_Word.WORD]] = []
    for i, piece in enumerate(_FIELD.split(template)):
        if i % 2 == 1 and piece == "word":
            pieces.append(WORD)
        else:
            _append_text(pieces, text if i % 2 == 1 else piece)
    return tuple(pieces)


def _append_text(pieces: list[str | Literal[_Word.WORD]], text: str) -> None:
    """Append `text`, merged with a text before it: a word split over two pieces is tokenised as one."""
    if not text:
        return
    if pieces and isinstance(pieces[-1], str):
        pieces[-1] += text
    else:
        pieces.append(text)


def check_prompts(prompts: Sequence[Prompt]) -> None:
    """Raise `InputError` for a plain string, or anything but text and `WORD`, where a prompt is expected."""
    for prompt in prompts:
        if isinstance(prompt, str) or not all(isinstance(p, str) or p is WORD for p in prompt):
            raise InputError(
                f"a prompt is a tuple of strings and WORD, not {prompt!r}; make one with "
                'fill("a photo of {word} that {text}", text).'
            )
