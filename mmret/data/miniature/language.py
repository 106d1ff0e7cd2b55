"""How people talk about miniature scenes: captions in varied everyday English.

Captions say what is there; edits (`edits.py`) say what to change. The two kinds of language differ on purpose:
composed retrieval asks a text encoder that knows captions to follow an edit.
"""

from __future__ import annotations

import random

from mmret.data.miniature.scene import Group, Scene

SHAPE_WORDS = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "heart": ("heart",),
    "ring": ("ring", "hoop"),
    "cross": ("cross", "plus sign"),
    "diamond": ("diamond",),
}
SIZE_WORDS = {"small": ("small", "little", "tiny"), "big": ("big", "large")}
PATTERN_BEFORE = {"striped": ("striped",), "dotted": ("dotted", "spotted"), "plain": ("plain",)}
PATTERN_AFTER = {
    "striped": ("with stripes",),
    "dotted": ("with dots", "with spots"),
    "plain": ("without a pattern",),
}
COUNT_WORDS = {1: ("a", "one", "a single"), 2: ("two", "a pair of"), 3: ("three",), 4: ("four",)}
PLACE_WORDS = {
    "left": ("on the left", "at the left side", "to the left"),
    "right": ("on the right", "at the right side", "to the right"),
    "top": ("at the top", "near the top edge", "up at the top"),
    "bottom": ("at the bottom", "near the bottom edge", "down at the bottom"),
    "middle": ("in the middle", "in the centre", "right in the middle"),
}
BACKGROUND_WORDS = {
    "paper": ("on white paper", "on a sheet of paper"),
    "grass": ("on grass", "on a green lawn"),
    "sand": ("on sand", "at the beach"),
    "night": ("at night", "under a night sky"),
    "water": ("on water", "on the sea"),
    "bricks": ("on a brick wall", "in front of bricks"),
}
GENERIC_NOUNS = ("shape", "thing", "object")
OPENINGS = (
    "",
    "",
    "",
    "a photo of ",
    "a picture of ",
    "a drawing of ",
    "we see ",
    "you can see ",
    "this shows ",
)
#: How often a caption mentions each attribute of a group; the shape, as the noun, most often ("thing" otherwise).
MENTION = {
    "shape": 0.9,
    "colour": 0.5,
    "pattern": 0.5,
    "size": 0.5,
    "count": 0.5,
    "place": 0.5,
    "background": 0.5,
}
#: The patternless pattern goes without saying, most often.
MENTION_PLAIN = 0.4
#: Several objects whose number is not said.
UNCOUNTED = ("some ", "")


def plural(noun: str) -> str:
    """The plural of a shape word: crosses, boxes, plus signs, stars."""
    return noun + ("es" if noun.endswith(("ss", "x")) else "s")


def noun_phrase(group: Group, rng: random.Random, *, said: set[str]) -> str:
    """The group as a noun phrase that mentions the attributes in `said` ("two small striped red rings")."""
    noun = rng.choice(SHAPE_WORDS[group.shape] if "shape" in said else GENERIC_NOUNS)
    before = [rng.choice(SIZE_WORDS[group.size])] if "size" in said else []
    after = ""
    if "pattern" in said and rng.random() < 0.65:
        before.append(rng.choice(PATTERN_BEFORE[group.pattern]))
    elif "pattern" in said:
        after = " " + rng.choice(PATTERN_AFTER[group.pattern])
    before += [group.colour] if "colour" in said else []
    words = " ".join([*before, plural(noun) if group.count > 1 else noun])
    return f"{_determiner(group, words, rng, counted='count' in said)}{words}{after}"


def _determiner(group: Group, following: str, rng: random.Random, *, counted: bool) -> str:
    if counted or group.count == 1:
        word = rng.choice(COUNT_WORDS[group.count]) if counted else "a"
        return _article(word, following) + " "
    return rng.choice(UNCOUNTED)


def _article(count_word: str, following: str) -> str:
    return "an" if count_word == "a" and following[0] in "aeiou" else count_word


def _mentioned(group: Group, rng: random.Random) -> set[str]:
    odds = MENTION | ({"pattern": MENTION_PLAIN} if group.pattern == "plain" else {})
    return {name for name, share in odds.items() if rng.random() < share}


def _with_place(group: Group, phrase: str, rng: random.Random, mention: bool) -> str:
    return f"{phrase} {rng.choice(PLACE_WORDS[group.place])}" if mention else phrase


def _join(phrases: list[str]) -> str:
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]


def _frame(body: str, scene: Scene, rng: random.Random, mention_background: bool) -> str:
    opening = rng.choice(OPENINGS)
    if not mention_background:
        return opening + body
    background = rng.choice(BACKGROUND_WORDS[scene.background])
    return f"{background}, {opening}{body}" if rng.random() < 0.2 else f"{opening}{body} {background}"


def caption(scene: Scene, rng: random.Random) -> str:
    """A caption of the scene: what there is, with some of its attributes (see `MENTION`), as people would say it."""
    groups = list(scene.groups)
    rng.shuffle(groups)
    phrases = []
    for group in groups:
        said = _mentioned(group, rng)
        phrases.append(_with_place(group, noun_phrase(group, rng, said=said), rng, "place" in said))
    return _frame(_join(phrases), scene, rng, rng.random() < MENTION["background"])


def describe(scene: Scene, said: set[str], rng: random.Random) -> str:
    """A caption that mentions exactly the attributes in `said` (names of `ATTRIBUTES`), of every group."""
    phrases = [_with_place(g, noun_phrase(g, rng, said=said), rng, "place" in said) for g in scene.groups]
    return _frame(_join(phrases), scene, rng, "background" in said)
