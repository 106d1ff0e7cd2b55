"""Questions about generated pages: which facts they name, and how they are said.

| kind | what it asks for | what could answer it |
|---|---|---|
| text | words anywhere on the page | a text layer |
| layout | words in a role or at a place | the look of the page; a text layer holds the words alone |
| picture | charts and icons by colour, shape and place | the pictures; alternative texts, but for places |
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from mmret.data.miniature_pages.page import Fact, Page

KINDS: Final = ("text", "layout", "picture")

#: Facts that a question of a kind may name.
NAMED: Final = {
    "text": ("word",),
    "layout": ("title", "paragraph", "table", "chart label", "at"),
    "picture": ("chart", "icon", "chart at", "icon at"),
}
PHRASES: Final = {
    "word": ("{0}",),
    "title": ("{0} in the title", "a title with {0}"),
    "paragraph": ("{0} in a paragraph", "a paragraph with {0}"),
    "table": ("{0} in a table", "a table with {0}"),
    "chart label": ("{0} over a chart", "a chart of {0}"),
    "at": ("{1} at the {0}",),
    "chart": ("a {0} {1} chart",),
    "icon": ("a {0} {1}",),
    "chart at": ("a {1} {2} chart at the {0}",),
    "icon at": ("a {1} {2} at the {0}",),
}
FRAMES: Final = ("which page has {}", "find {}", "{}", "a page with {}", "where is {}")
WORD_FRAMES: Final = (*FRAMES, "a page about {}", "where does it say {}")


def phrase(fact: Fact, rng: random.Random) -> str:
    """One fact in words."""
    kind, *values = fact
    said = rng.choice(PHRASES[kind]).format(*values)
    return said.replace("a orange", "an orange")


def say(facts: Sequence[Fact], rng: random.Random) -> str:
    """A question for all of these facts, in this order."""
    parts = [phrase(fact, rng) for fact in facts]
    joined = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    frames = WORD_FRAMES if all(fact[0] == "word" for fact in facts) else FRAMES
    return rng.choice(frames).format(joined)


def choose_facts(page: Page, kind: str, count: int, rng: random.Random) -> tuple[Fact, ...]:
    """Up to `count` facts of a page that a question of this kind may name, each about another thing.

    Empty if the page has nothing of the kind.
    """
    fitting = sorted(fact for fact in page.facts if fact[0] in NAMED[kind])
    rng.shuffle(fitting)
    chosen: dict[str, Fact] = {}
    for fact in fitting:
        chosen.setdefault(_thing(fact), fact)
    return tuple(chosen.values())[:count]


def _thing(fact: Fact) -> str:
    """What a fact is about: a word, or a picture (its kind and colour); places and roles aside."""
    return " ".join(fact[-2:]) if fact[0] in NAMED["picture"] else fact[-1]
