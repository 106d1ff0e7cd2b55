"""Which words of a caption LinCIR replaces by the pseudo-word.

LinCIR (Gu et al., arXiv 2312.01998) replaces every run of nouns, proper nouns, adjectives and determiners, as a
tagger finds them. Here the complement is listed instead: the closed word classes that end such a run (prepositions,
conjunctions, pronouns, numerals, auxiliaries) and the commonest caption verbs; every other word belongs to a run.
"""

import random
import re

from mmret.backbones.prompt import WORD, Prompt

_DETERMINERS = frozenset(
    "a an the this that these those some any each every another no its his her their our my your".split()
)
_ENDS_A_RUN = frozenset(
    """of on in at by with without to from for into onto over under near next beside between behind above below across
    along around through up down off out inside outside against toward towards during after before as than like about
    and or but nor so while if when where which who whom whose what how because although
    is are was were be been being am has have had do does did can could will would shall should may might must not
    i you he she it we they me him us them himself herself itself themselves there here
    one two three four five six seven eight nine ten both all few many several more most less least other
    see sees seen shows show showing shown looks look looking stands stand standing sits sit sitting holds hold holding
    wears wear wearing walks walk walking runs running rides riding plays playing eats eating makes making put puts
    very too also just only then now again away together""".split()
)
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def keyword_spans(caption: str) -> list[tuple[int, int]]:
    """Character ranges [start, end) of the caption's keyword runs, in reading order.

    A run is a sequence of words, with nothing but spaces between them, none of which ends a run; a run of
    determiners alone holds no keyword and is left out.
    """
    runs: list[list[re.Match[str]]] = [[]]
    for word in _WORD.finditer(caption):
        touching = not runs[-1] or caption[runs[-1][-1].end() : word.start()].isspace()
        if word[0].lower() in _ENDS_A_RUN:
            runs.append([])
        elif touching:
            runs[-1].append(word)
        else:
            runs.append([word])
    kept = (run for run in runs if any(word[0].lower() not in _DETERMINERS for word in run))
    return [(run[0].start(), run[-1].end()) for run in kept]


def mask_keywords(caption: str, rng: random.Random) -> Prompt:
    """The caption as a prompt with every keyword run replaced by the pseudo-word.

    A caption without keywords gets a random word replaced; one without words becomes "a photo of" the
    pseudo-word (both as in the official code).
    """
    spans = keyword_spans(caption)
    if not spans:
        words = [match.span() for match in _WORD.finditer(caption)]
        spans = [rng.choice(words)] if words else []
    if not spans:
        return ("a photo of ", WORD)
    starts, ends = [0, *(end for _, end in spans)], [*(start for start, _ in spans), len(caption)]
    pieces = [caption[start:end] for start, end in zip(starts, ends, strict=True)]
    prompt = [part for piece in pieces for part in (piece, WORD)][:-1]
    return tuple(part for part in prompt if part)
