"""Which words of a caption LinCIR replaces by the pseudo-word.

LinCIR (Gu et al., arXiv 2312.01998) replaces every run of nouns, proper nouns, adjectives and determiners, as spaCy
tags them. `tagger("spacy:en_core_web_sm")` does the same where that model is installed; `tagger("rules")` needs none
(`mmret.composition.word_classes`).

The rules, against 42 captions labelled by hand that were not looked at while they were written (CIRR's, FashionIQ's,
and some of our own in COCO's style), word by word: precision .986, recall .981 (`tests/composition`).
"""

import random
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

from mmret.backbones.prompt import WORD, Prompt
from mmret.composition.word_classes import WORD_PATTERN, WordClass, classify
from mmret.errors import InputError

Span = tuple[int, int]
Tagger = Callable[[Sequence[str]], list[list[Span]]]
"""For each caption the character ranges [start, end) of its keyword runs, in reading order."""

SPACY_MODEL = "en_core_web_sm"
"""The official code's."""

_SPACY = "spacy:"
_TAGS = frozenset({"NOUN", "PROPN", "ADJ"})


def tagger(name: str) -> Tagger:
    """What finds keywords: `rules`, `spacy:MODEL`, or `auto` (spaCy's small model if installed, else the rules).

    Raises:
        InputError: for another name, or a spaCy model that is not installed.
    """
    if name == "auto":
        name = f"{_SPACY}{SPACY_MODEL}" if find_spec("spacy") and find_spec(SPACY_MODEL) else "rules"
    if name == "rules":
        return lambda captions: [keyword_spans(caption) for caption in captions]
    if not name.startswith(_SPACY):
        raise InputError(f"there is no keyword tagger {name!r}; there are rules, spacy:MODEL and auto.")
    pipeline = _load_spacy(name.removeprefix(_SPACY))
    return lambda captions: [spacy_spans(document) for document in pipeline.pipe(captions)]


@cache
def _load_spacy(model: str) -> Any:
    """The pipeline, without the parts that tags do not need."""
    try:
        import spacy  # type: ignore[import-not-found, unused-ignore]

        return spacy.load(model, exclude=["parser", "ner", "lemmatizer"])
    except (ImportError, OSError) as error:
        raise InputError(
            f"the spaCy model {model} is not installed (pip install spacy, then python -m spacy download {model}); "
            "keywords: rules needs none."
        ) from error


def spacy_spans(document: Any) -> list[Span]:
    """The keyword runs of a document that spaCy has tagged (`pos_` of its tokens)."""
    words = [(token.idx, token.idx + len(token.text)) for token in document]
    return _runs(document.text, words, [_spacy_class(token.pos_) for token in document])


def _spacy_class(tag: str) -> WordClass:
    if tag == "DET":
        return WordClass.DETERMINER
    return WordClass.KEYWORD if tag in _TAGS else WordClass.OTHER


def keyword_spans(caption: str) -> list[Span]:
    """Character ranges [start, end) of the caption's keyword runs by the rules, in reading order."""
    found = list(WORD_PATTERN.finditer(caption))
    classes = classify([word[0] for word in found])
    return _runs(caption, [word.span() for word in found], classes)


def _runs(text: str, words: Sequence[Span], classes: Sequence[WordClass]) -> list[Span]:
    """Runs of keywords and determiners with nothing but spaces between them; determiners alone are none."""
    runs: list[list[int]] = [[]]
    for place, kind in enumerate(classes):
        if kind is WordClass.OTHER:
            runs.append([])
            continue
        if runs[-1] and text[words[place - 1][1] : words[place][0]].strip():
            runs.append([])
        runs[-1].append(place)
    kept = (run for run in runs if any(classes[place] is WordClass.KEYWORD for place in run))
    return [(words[run[0]][0], words[run[-1]][1]) for run in kept]


def mask_keywords(caption: str, spans: Sequence[Span], rng: random.Random) -> Prompt:
    """The caption as a prompt with every keyword run (`spans`) replaced by the pseudo-word.

    A caption without keywords gets a random word replaced; one without words becomes "a photo of" the
    pseudo-word (both as in the official code).
    """
    if not spans:
        words = [match.span() for match in WORD_PATTERN.finditer(caption)]
        spans = [rng.choice(words)] if words else []
    if not spans:
        return ("a photo of ", WORD)
    starts, ends = [0, *(end for _, end in spans)], [*(start for start, _ in spans), len(caption)]
    pieces = [caption[start:end] for start, end in zip(starts, ends, strict=True)]
    prompt = [part for piece in pieces for part in (piece, WORD)][:-1]
    return tuple(part for part in prompt if part)
