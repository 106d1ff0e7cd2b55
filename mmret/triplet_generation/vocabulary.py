"""The words of a corpus that may stand for one another: near enough to fit, far enough to differ."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mmret.backbones.base import Backbone
from mmret.embedding import embed_texts
from mmret.errors import InputError
from mmret.retrieval.checks import Floats, checked_vectors, normalised
from mmret.triples import parse_phrases

NOUN, ATTRIBUTE = "noun", "attribute"
#: Of a word's substitutes that many are kept; of the words that many are compared with all others at a time.
_KEPT, _AT_ONCE = 64, 512
_PROGRESS_AFTER_S = 5.0


@dataclass(frozen=True)
class Vocabulary:
    """Words by kind (`noun`, `attribute`) with what may take their place.

    Attributes:
        counts: Kind → word → in how many phrases it stands.
        substitutes: Kind → word → at most 64 words of the same kind in the band of similarity, frequent and rare ones,
            nearest first; none: no entry.
    """

    counts: dict[str, dict[str, int]]
    substitutes: dict[str, dict[str, tuple[str, ...]]]

    @property
    def digest(self) -> str:
        """SHA-256 of the substitutes: another corpus, backbone or band has another."""
        text = json.dumps(self.substitutes, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


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
    counts = _count_words(captions)
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


def _count_words(captions: Iterable[str]) -> dict[str, Counter[str]]:
    """Nouns and attributes. An attribute of one noun alone is a part of its name: no other makes a "teddy bear"."""
    counts: dict[str, Counter[str]] = {NOUN: Counter(), ATTRIBUTE: Counter()}
    first: dict[str, str] = {}
    free = set[str]()
    for caption in captions:
        for phrase in parse_phrases(caption):
            counts[NOUN][phrase.noun] += 1
            counts[ATTRIBUTE].update(phrase.attributes)
            free.update(
                word for word in phrase.attributes if first.setdefault(word, phrase.noun) != phrase.noun
            )
    counts[ATTRIBUTE] = Counter({word: count for word, count in counts[ATTRIBUTE].items() if word in free})
    return counts


def _frequent(found: Counter[str], least: int, most: int) -> dict[str, int]:
    """The most frequent words; equal counts in alphabetical order, so that every machine keeps the same."""
    ordered = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
    return {word: count for word, count in ordered if count >= least and not word.isdigit()}


def _substitutes(
    words: list[str], backbone: Backbone, band: tuple[float, float]
) -> dict[str, tuple[str, ...]]:
    if len(words) < 2:
        return {}
    vectors = checked_vectors(tuple(words), embed_texts(backbone, words, progress=True), "the words")
    names = np.array(words)
    rows = zip(words, _in_band(normalised(vectors), band), strict=True)
    return {word: tuple(names[near].tolist()) for word, near in rows if len(near)}


def _in_band(vectors: Floats, band: tuple[float, float]) -> Iterator[NDArray[np.int64]]:
    """For each of the unit vectors [N, D] the rows of others whose cosine lies in the band, nearest first.

    Each is compared with all others, not with its nearest alone: among 20,000 words hundreds are nearer than any band
    worth having. Where more than `_KEPT` lie in the band, an even part of them in the order of rows is kept.
    """
    for start in tqdm(range(0, len(vectors), _AT_ONCE), desc="substitutes", delay=_PROGRESS_AFTER_S):
        cosines = vectors[start : start + _AT_ONCE] @ vectors.T
        inside = (cosines >= band[0]) & (cosines <= band[1])
        for row, line in enumerate(cosines):
            inside[row, start + row] = False
            found = np.flatnonzero(inside[row])
            if len(found) > _KEPT:
                found = found[np.linspace(0, len(found) - 1, _KEPT).round().astype(np.int64)]
            yield found[np.argsort(-line[found], kind="stable")]
