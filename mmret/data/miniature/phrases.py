"""Phrases about the miniature world's concepts, written by rule: what a language model would be asked for."""

from __future__ import annotations

import random

from mmret.data.miniature.language import BACKGROUND_WORDS, PATTERN_AFTER, PLACE_WORDS
from mmret.data.miniature.scene import COLOURS, SHAPES

PHRASES_A_CONCEPT = 16
_SEED = 20262


def concept_phrases() -> dict[str, tuple[str, ...]]:
    """Concept ("red circle", each colour with each shape) → sixteen phrases; the same on every machine."""
    rng = random.Random(_SEED)
    concepts = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    return {concept: tuple(_phrases(concept, concepts, rng)) for concept in concepts}


def _phrases(concept: str, concepts: list[str], rng: random.Random) -> list[str]:
    article = "an" if concept[0] in "aeiou" else "a"
    return [f"a photo of {article} {concept} {_ending(concepts, rng)}" for _ in range(PHRASES_A_CONCEPT)]


def _ending(concepts: list[str], rng: random.Random) -> str:
    """What may follow: a place, a background, a pattern, or another thing."""
    other = rng.choice(concepts)
    endings = (
        rng.choice(rng.choice(list(PLACE_WORDS.values()))),
        rng.choice(rng.choice(list(BACKGROUND_WORDS.values()))),
        rng.choice(rng.choice(list(PATTERN_AFTER.values()))),
        f"and {'an' if other[0] in 'aeiou' else 'a'} {other}",
    )
    return rng.choice(endings)
