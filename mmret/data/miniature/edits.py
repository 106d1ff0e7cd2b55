"""Edits of miniature scenes: what to change, and two disjoint banks of phrasings to say it.

Training text (the text-only triplets) speaks bank A, the validation and test queries speak bank B, so a method
that was trained on triplets cannot recognise a query by its wording.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from mmret.data.miniature.language import BACKGROUND_WORDS, PLACE_WORDS, SHAPE_WORDS, noun_phrase, plural
from mmret.data.miniature.scene import (
    AXES,
    BACKGROUNDS,
    COLOURS,
    MAX_COUNT,
    PATTERNS,
    PLACES,
    SHAPES,
    SIZES,
    Group,
    Scene,
    belongs_to,
    sample_group,
)

BANKS = ("A", "B")
#: {it} is the object that changes ("the ring", "the two stars"); the other fields are named by the kind of edit.
PHRASES: dict[str, dict[str, tuple[str, ...]]] = {
    "A": {
        "colour": ("make {it} {colour}", "change the colour of {it} to {colour}", "{it} should be {colour}"),
        "shape": ("replace {it} with {noun}", "change {it} into {noun}", "swap {it} for {noun}"),
        "striped": ("add stripes to {it}", "make {it} striped", "{it} should get stripes"),
        "dotted": ("add dots to {it}", "make {it} dotted", "{it} should get dots"),
        "plain": ("remove the pattern from {it}", "make {it} plain", "{it} should have no pattern"),
        "bigger": ("make {it} bigger", "{it} should be larger"),
        "smaller": ("make {it} smaller", "{it} should be tiny"),
        "more": ("add {number} more {counted}", "put {number} more {counted} there"),
        "fewer": ("take {number} {counted} away", "remove {number} of the {nouns}"),
        "place": ("move {it} {place}", "put {it} {place}"),
        "background": ("change the background to be {background}", "put everything {background}"),
        "add": ("add {group} {place}", "put {group} {place}"),
        "remove": ("remove {it}", "take {it} away", "delete {it}"),
    },
    "B": {
        "colour": ("{it} in {colour} instead", "turn {it} {colour}", "same picture but with {it} {colour}"),
        "shape": (
            "{noun} instead of {it}",
            "now it is {noun}, no longer {it}",
            "same scene with {noun} in place of {it}",
        ),
        "striped": ("give {it} stripes", "same but with {it} striped", "let {it} have stripes now"),
        "dotted": ("give {it} dots", "same but with {it} dotted", "let {it} have spots now"),
        "plain": ("same scene without the {pattern} on {it}", "no more {pattern} on {it}", "let {it} be plain now"),
        "bigger": ("a bigger version of {it}", "let {it} grow", "same but with {it} large now"),
        "smaller": ("a smaller version of {it}", "let {it} shrink", "same but with {it} little now"),
        "more": ("{number} more {counted}", "same scene, {number} extra {counted}"),
        "fewer": ("{number} {counted} fewer", "same scene with {number} fewer {counted}"),
        "place": ("{it} {place} instead", "shift {it} so as to be {place}"),
        "background": ("same thing but {background}", "now {background} instead"),
        "add": ("same scene with {group} {place} as well", "also has {group} {place}"),
        "remove": ("same scene without {it}", "no {it_bare} any more", "same scene with {it} gone"),
    },
}  # fmt: skip

_NUMBER_WORDS = {1: "one", 2: "two", 3: "three"}
_PATTERN_NOUN = {"striped": "stripes", "dotted": "dots", "plain": "pattern"}


@dataclass(frozen=True)
class Edit:
    """One edit of one scene: the scene after it, the kind of edit, and what fills its phrasings."""

    target: Scene
    kind: str
    phrase: str
    fields: dict[str, str]

    def text(self, bank: str, rng: random.Random) -> str:
        """The edit in words of the bank "A" or "B"."""
        return rng.choice(PHRASES[bank][self.phrase]).format(**self.fields)


def _naming(group: Group, rng: random.Random) -> dict[str, str]:
    word = rng.choice(SHAPE_WORDS[group.shape])
    bare = plural(word) if group.count > 1 else word
    return {"it": f"the {bare}", "it_bare": bare}


def _other(values: tuple[str, ...], current: str, rng: random.Random) -> str:
    return rng.choice([value for value in values if value != current])


def _recolour(scene: Scene, group: Group, rng: random.Random, split: str) -> Edit:
    colour = _other(COLOURS, group.colour, rng)
    target = scene.replace(group, replace(group, colour=colour))
    return Edit(target, "colour", "colour", {**_naming(group, rng), "colour": colour})


def _reshape(scene: Scene, group: Group, rng: random.Random, split: str) -> Edit:
    new = replace(group, shape=_other(SHAPES, group.shape, rng))
    noun = noun_phrase(new, rng, said={"shape", "count"})
    return Edit(scene.replace(group, new), "shape", "shape", {**_naming(group, rng), "noun": noun})


def _repattern(scene: Scene, group: Group, rng: random.Random, split: str) -> Edit:
    pattern = _other(PATTERNS, group.pattern, rng)
    fields = {**_naming(group, rng), "pattern": _PATTERN_NOUN[group.pattern]}
    return Edit(scene.replace(group, replace(group, pattern=pattern)), "pattern", pattern, fields)


def _resize(scene: Scene, group: Group, rng: random.Random, split: str) -> Edit:
    size = _other(SIZES, group.size, rng)
    target = scene.replace(group, replace(group, size=size))
    return Edit(target, "size", "bigger" if size == "big" else "smaller", _naming(group, rng))


def _recount(scene: Scene, group: Group, rng: random.Random, split: str) -> Edit | None:
    counts = [c for c in range(1, MAX_COUNT[len(scene.groups)] + 1) if c != group.count]
    if not counts:
        return None
    count = rng.choice(counts)
    number = abs(count - group.count)
    word = rng.choice(SHAPE_WORDS[group.shape])
    fields = {
        "number": _NUMBER_WORDS[number],
        "counted": plural(word) if number > 1 else word,
        "nouns": plural(word),
    }
    target = scene.replace(group, replace(group, count=count))
    return Edit(target, "count", "more" if count > group.count else "fewer", fields)


def _move(scene: Scene, group: Group, rng: random.Random, split: str) -> Edit:
    place = _other(PLACES, group.place, rng)
    fields = {**_naming(group, rng), "place": rng.choice(PLACE_WORDS[place])}
    return Edit(scene.replace(group, replace(group, place=place)), "place", "place", fields)


def _set_background(scene: Scene, group: Group, rng: random.Random, split: str) -> Edit:
    background = _other(BACKGROUNDS, scene.background, rng)
    fields = {"background": rng.choice(BACKGROUND_WORDS[background])}
    return Edit(replace(scene, background=background), "background", "background", fields)


def _add_group(scene: Scene, group: Group, rng: random.Random, split: str) -> Edit:
    place = rng.choice(rng.choice(AXES))
    new = sample_group(rng, split, scene.background, place, MAX_COUNT.get(len(scene.groups) + 1, 1))
    phrase = noun_phrase(new, rng, said={"shape", "colour", "count", "size", "pattern"})
    fields = {"group": phrase, "place": rng.choice(PLACE_WORDS[place])}
    return Edit(Scene((*scene.groups, new), scene.background), "add", "add", fields)


def _remove_group(scene: Scene, group: Group, rng: random.Random, split: str) -> Edit:
    return Edit(scene.replace(group), "remove", "remove", _naming(group, rng))


_MAKERS: dict[str, Callable[[Scene, Group, random.Random, str], Edit | None]] = {
    "colour": _recolour,
    "shape": _reshape,
    "pattern": _repattern,
    "size": _resize,
    "count": _recount,
    "place": _move,
    "background": _set_background,
    "add": _add_group,
    "remove": _remove_group,
}
KINDS = tuple(_MAKERS)


def sample_edit(scene: Scene, kind: str, rng: random.Random, split: str, tries: int = 8) -> Edit | None:
    """A random edit of that kind whose result is a drawable scene of the split; None if `tries` draws find none."""
    for _ in range(tries):
        edit = _MAKERS[kind](scene, rng.choice(scene.groups), rng, split)
        if edit is not None and belongs_to(edit.target, split):
            return edit
    return None
