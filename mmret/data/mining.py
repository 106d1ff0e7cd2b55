"""Triplets mined from captioned images, as GeneCIS trains on them (Vaze et al., arXiv 2306.07969).

A reference and a target whose captions speak of the same noun, and a condition that is said of the target's alone: an
attribute ("red") or a relation with its object ("on a sofa"). GeneCIS takes (subject, relation, object) triples of
CC3M from a trained scene-graph parser, relations only, and keeps what is concrete; the parser here works by rules
(`mmret.triples`), and attributes count too.
"""

import random
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mmret.data import records
from mmret.errors import InputError
from mmret.triples import parse_attributes, parse_triples

LEAST_CONCRETENESS = 4.8
"""GeneCIS keeps triplets whose words are rated higher than this on average (1 … 5, Brysbaert et al. 2014)."""

_TRIES = 100


@dataclass(frozen=True)
class Fact:
    """What a caption says of a noun: the condition as text, and what it is about (the object, or the attribute)."""

    subject: str
    kind: str
    about: str
    condition: str


@dataclass(frozen=True)
class MinedTriplet:
    """Rows of the reference and the target among the captions, what both show, and what the target's alone says."""

    reference: int
    target: int
    subject: str
    condition: str


def facts_of(caption: str) -> list[Fact]:
    """The facts of a caption: each attribute of each noun, and each relation of each subject."""
    attributes = [
        Fact(singular(phrase.noun), "attribute", attribute, attribute)
        for phrase in parse_attributes(caption)
        for attribute in phrase.attributes
    ]
    relations = [
        Fact(
            singular(triple.subject.noun),
            "relation",
            singular(triple.object.noun),
            f"{triple.predicate} {triple.object}",
        )
        for triple in parse_triples(caption)
    ]
    return list(dict.fromkeys([*attributes, *relations]))


@cache
def singular(noun: str) -> str:
    """A noun without the ending of its plural: "boxes" and "box" are one thing."""
    if noun.endswith(("sses", "xes", "shes", "ches")):
        return noun[:-2]
    return noun[:-1] if noun.endswith("s") and not noun.endswith(("ss", "us", "is")) else noun


def read_concreteness(path: str | Path) -> dict[str, float]:
    """Ratings of words from a tab-separated table with a heading: the word first, its mean rating third.

    That is the layout of Brysbaert et al.'s norms. Raises InputError for another one.
    """
    ratings = {}
    for number, line in enumerate(records.read_text(path).splitlines()[1:], start=2):
        cells = line.split("\t")
        try:
            ratings[cells[0].lower()] = float(cells[2])
        except (IndexError, ValueError):
            raise InputError(f"{path}:{number} is {line[:60]!r}, no word with its rating third.") from None
    return ratings


def mine_triplets(
    captions: Sequence[str],
    count: int,
    *,
    images: Sequence[Hashable] | None = None,
    seed: int = 0,
    least_images: int = 2,
    concreteness: Mapping[str, float] | None = None,
) -> list[MinedTriplet]:
    """Draw triplets; the same for the same arguments.

    A noun is drawn by the number of its images, a reference among its facts, then something else that is said of the
    noun, then a target that says it. The reference's own caption does not say it.

    Args:
        captions: N captions.
        count: How many triplets to draw; the same pair may come twice.
        images: [N], what image each caption belongs to; by default each to its own.
        seed: Of the draw.
        least_images: A noun counts if so many images show it, with at least two different facts of one kind.
        concreteness: Word → rating; triplets rated at most `LEAST_CONCRETENESS` on average are left out, unknown
            words counting −1 as in GeneCIS. None: everything stays.

    Raises:
        InputError: nothing can be mined, or too little that passes.
    """
    owners = list(range(len(captions))) if images is None else list(images)
    facts = [facts_of(caption) for caption in captions]
    said = [frozenset((fact.subject, fact.kind, fact.about) for fact in found) for found in facts]
    grouped: dict[tuple[str, str], dict[str, list[tuple[int, Fact]]]] = defaultdict(lambda: defaultdict(list))
    for row, found in enumerate(facts):
        for fact in found:
            grouped[fact.kind, fact.subject][fact.about].append((row, fact))
    pools = [
        _Pool(options)
        for options in grouped.values()
        if len(options) > 1
        and len({owners[row] for rows in options.values() for row, _ in rows}) >= least_images
    ]
    if not pools:
        raise InputError(
            f"no triplet can be mined from {len(captions):,} captions: no noun has two different facts."
        )
    return _draw(pools, count, owners, said, concreteness, random.Random(seed))


@dataclass(frozen=True)
class _Pool:
    """All facts of one kind about one noun, by what they are about."""

    options: Mapping[str, list[tuple[int, Fact]]]

    @property
    def size(self) -> int:
        return sum(map(len, self.options.values()))


def _draw(
    pools: Sequence[_Pool],
    count: int,
    owners: Sequence[Hashable],
    said: Sequence[frozenset[tuple[str, str, str]]],
    concreteness: Mapping[str, float] | None,
    rng: random.Random,
) -> list[MinedTriplet]:
    weights = [pool.size for pool in pools]
    flat = [[pair for rows in pool.options.values() for pair in rows] for pool in pools]
    found: list[MinedTriplet] = []
    for _ in range(count * _TRIES):
        if len(found) == count:
            break
        (chosen,) = rng.choices(range(len(pools)), weights)
        reference, own = rng.choice(flat[chosen])
        target, fact = rng.choice(pools[chosen].options[rng.choice(list(pools[chosen].options))])
        different = (fact.subject, fact.kind, fact.about) not in said[reference]
        if different and owners[reference] != owners[target] and _is_concrete(own, fact, concreteness):
            found.append(MinedTriplet(reference, target, fact.subject, fact.condition))
    if len(found) < count:
        raise InputError(
            f"only {len(found):,} of {count:,} triplets could be mined; give more captions, or ask for fewer triplets."
        )
    return found


def _is_concrete(own: Fact, other: Fact, ratings: Mapping[str, float] | None) -> bool:
    """Whether subject and objects of both are rated above the threshold on average."""
    if ratings is None:
        return True
    words = (own.subject, own.about, other.subject, other.about)
    return sum(ratings.get(word, -1.0) for word in words) / len(words) > LEAST_CONCRETENESS
