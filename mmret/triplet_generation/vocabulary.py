"""The words of a corpus that may stand for one another: near enough to fit, far enough to differ."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mmret.backbones.base import Backbone
from mmret.embedding import embed_texts
from mmret.errors import InputError
from mmret.retrieval.index import Index
from mmret.retrieval.search import search
from mmret.triples import Phrase, parse_phrases

NOUN, ATTRIBUTE = "noun", "attribute"
#: Neighbours of a word that are looked at, and of those in the band that are kept.
_SEARCHED, _KEPT = 512, 64


@dataclass(frozen=True)
class Vocabulary:
    """Words by kind (`noun`, `attribute`) with what may take their place.

    Attributes:
        counts: Kind → word → in how many phrases it stands.
        substitutes: Kind → word → words of the same kind in the band of similarity, nearest first; none: no entry.
    """

    counts: dict[str, dict[str, int]]
    substitutes: dict[str, dict[str, tuple[str, ...]]]


def read_vocabulary(
    captions: Iterable[str],
    backbone: Backbone,
    band: tuple[float, float] = (0.5, 0.7),
    *,
    least: int = 2,
    most: int = 20_000,
) -> Vocabulary:
    """Count the corpus' nouns and attributes, and find each one's substitutes by the backbone's text similarity.

    Args:
        captions: Read once.
        backbone: With a text tower; words are embedded as they stand.
        band: Cosine similarities between which a substitute lies. RTD's is about .5 to .7 for CLIP (unverified).
        least: A word counts if so many phrases hold it.
        most: Words of a kind that are kept, the most frequent ones.

    Raises:
        InputError: a band that is none, or a corpus in which no word has a substitute.
    """
    low, high = band
    if not -1 <= low < high <= 1:
        raise InputError(f"the band {low:g} to {high:g} is none: give two cosines, the lower one first.")
    counts: dict[str, Counter[str]] = {NOUN: Counter(), ATTRIBUTE: Counter()}
    for caption in captions:
        for phrase in parse_phrases(caption):
            counts[NOUN][phrase.noun] += 1
            counts[ATTRIBUTE].update(phrase.attributes)
    # "pink" may stand as a noun where a caption ends with it: a word belongs to the kind that it mostly is.
    mostly = {
        kind: Counter({word: count for word, count in counts[kind].items() if count >= counts[other][word]})
        for kind, other in ((NOUN, ATTRIBUTE), (ATTRIBUTE, NOUN))
    }
    kept = {kind: _frequent(found, least, most) for kind, found in mostly.items()}
    substitutes = {kind: _substitutes(list(words), backbone, band) for kind, words in kept.items()}
    if not any(substitutes.values()):
        raise InputError(
            f"no two of {sum(map(len, kept.values())):,} words have a similarity from {low:g} to {high:g}; widen the "
            "band or give more captions."
        )
    return Vocabulary(kept, substitutes)


def words_of(phrase: Phrase) -> list[tuple[str, str]]:
    """The phrase's words with their kinds, its noun first."""
    return [(NOUN, phrase.noun), *((ATTRIBUTE, word) for word in phrase.attributes)]


def _frequent(found: Counter[str], least: int, most: int) -> dict[str, int]:
    """The most frequent words; equal counts in alphabetical order, so that every machine keeps the same."""
    ordered = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
    return {word: count for word, count in ordered if count >= least and not word.isdigit()}


def _substitutes(
    words: list[str], backbone: Backbone, band: tuple[float, float]
) -> dict[str, tuple[str, ...]]:
    if len(words) < 2:
        return {}
    vectors = embed_texts(backbone, words, progress=True)
    run = search(Index(words, vectors), words, vectors, min(_SEARCHED, len(words)))
    inside = (run.scores >= band[0]) & (run.scores <= band[1]) & (run.indices >= 0)
    rows = ((word, run.indices[row][inside[row]][:_KEPT]) for row, word in enumerate(run.query_ids))
    return {word: tuple(np.array(words)[near].tolist()) for word, near in rows if len(near)}
