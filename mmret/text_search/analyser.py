"""From text to the words that BM25 counts; every step is stated, and is an option."""

import unicodedata
from dataclasses import dataclass
from typing import Final, Literal

import regex

from mmret.errors import InputError

_WORD: Final = regex.compile(r"[\p{L}\p{N}\p{M}]+")

LUCENE_STOP_WORDS: Final = frozenset(
    """a an and are as at be but by for if in into is it no not of on or such that the their then there these they this
    to was will with""".split()
)
"""The 33 English words that Lucene's analyser leaves out."""

Stemmer = Literal["none", "plural"]


@dataclass(frozen=True)
class Analyser:
    """Text → words.

    1. Unicode NFKC (ligatures and full-width letters become plain ones), then case folding.
    2. Words are runs of letters, digits and marks; everything else divides.
    3. `stop_words: english` leaves out Lucene's 33 English words ("none": keeps all).
    4. `stemmer: plural` takes an English plural for its singular (Harman's S-stemmer, JASIS 1991: ies → y, es → e,
       s → "", with its exceptions), so that "plans" meets "plan". Lucene's English analyser uses Porter's stemmer,
       which goes further; numbers of ours and of Lucene's BM25 are not the same for it.
    """

    stop_words: Literal["none", "english"] = "english"
    stemmer: Stemmer = "plural"

    def __post_init__(self) -> None:
        """Refuse unknown options."""
        if self.stop_words not in ("none", "english"):
            raise InputError(f"stop_words is {self.stop_words!r}, not none or english.")
        if self.stemmer not in ("none", "plural"):
            raise InputError(f"stemmer is {self.stemmer!r}, not none or plural.")

    def __call__(self, text: str) -> list[str]:
        """The words of a text, in order, with repetitions.

        >>> Analyser()("The plan’s benefits: 2 copies")
        ['plan', 's', 'benefit', '2', 'copy']
        """
        words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
        kept = (word for word in words if self.stop_words == "none" or word not in LUCENE_STOP_WORDS)
        return [singular(word) for word in kept] if self.stemmer == "plural" else list(kept)


def singular(word: str) -> str:
    """Harman's S-stemmer: the first rule that fits decides, also where it says to leave the word.

    >>> [singular(word) for word in ("policies", "dies", "places", "shoes", "plans", "bus", "glass")]
    ['policy', 'dy', 'place', 'shoes', 'plan', 'bus', 'glass']
    """
    if word.endswith("ies"):
        return word if word.endswith(("eies", "aies")) else f"{word[:-3]}y"
    if word.endswith("es"):
        return word if word.endswith(("aes", "ees", "oes")) else word[:-1]
    if word.endswith("s"):
        return word if word.endswith(("us", "ss")) or len(word) == 1 else word[:-1]
    return word
