"""Builds the small BPE vocabulary of the miniature CLIP, in the file format of CLIP's own tokenizer.

The words are those of the miniature world (captions and both banks of edits), of the Unicode names of emoji, and
the commonest English function words; whatever else a user types is spelled with shorter pieces, as in CLIP.
Needs the `tokenizers` library (extra `vlm`). The result is committed beside the weights that read it, so only a change
of the words, and a new training, call for another. Merges of equal weight come in any order: the same words twice give
two files that number their tokens differently.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from mmret.data.miniature.edits import BANKS, KINDS, sample_edit
from mmret.data.miniature.language import caption
from mmret.data.miniature.scene import SPLITS, sample_scene

FUNCTION_WORDS = """a about after all also an and any are as at be been but by can could did do each every few first
for from get had has have he her here him his how i if in into is it its just like look looks make many me more most
my near new next no not now of off old on one only or other our out over put same see she show so some such than that
the their them then there these they this those to too two under up very was we what when where which while who will
with without would you your day night photo picture image sign person people face hand light dark medium skin tone
hair woman man women men girl boy child baby""".split()
_EMOJI_BLOCKS = ((0x2600, 0x27C0), (0x1F300, 0x1F650), (0x1F680, 0x1F700), (0x1F900, 0x1FB00))


def words_of(texts: Iterable[str]) -> Counter[str]:
    """How often each lower-case word occurs."""
    return Counter(word for text in texts for word in re.findall(r"[a-z]+", text.lower()))


def _world_texts(samples: int = 20_000) -> Iterable[str]:
    rng = random.Random(0)
    for i in range(samples):
        split = SPLITS[i % len(SPLITS)]
        scene = sample_scene(rng, split)
        yield caption(scene, rng)
        edit = sample_edit(scene, KINDS[i % len(KINDS)], rng, split)
        yield from (edit.text(bank, rng) for bank in BANKS if edit)


def _emoji_names() -> Iterable[str]:
    codes = (code for start, end in _EMOJI_BLOCKS for code in range(start, end))
    return (unicodedata.name(chr(code), "") for code in codes)


def vocabulary_words() -> dict[str, int]:
    """The words that get a token of their own, with the weight that the merges give them."""
    world = dict.fromkeys(words_of(_world_texts()), 1000)
    emoji = {word: 20 for word, count in words_of(_emoji_names()).items() if count > 1 and len(word) > 1}
    return {**emoji, **dict.fromkeys(FUNCTION_WORDS, 200), **world}


def write_vocabulary(path: Path, weights: Mapping[str, int] | None = None) -> int:
    """Write the merges that make every word of `weights` one token; returns how many there are.

    `weights` are by default those of `vocabulary_words`.
    """
    from tokenizers import Tokenizer, models, trainers

    weights = vocabulary_words() if weights is None else weights
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trainer = trainers.BpeTrainer(vocab_size=20_000, end_of_word_suffix="</w>", show_progress=False)
    tokenizer.train_from_iterator((word for word, weight in weights.items() for _ in range(weight)), trainer)
    merges = _merges(tokenizer.to_str())
    text = "\n".join(["#mmret miniature vocabulary, version 1", *merges])
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    return len(merges)


def _merges(serialised: str) -> list[str]:
    return [" ".join(merge) for merge in json.loads(serialised)["model"]["merges"]]
