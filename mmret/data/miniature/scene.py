"""What a miniature scene is: its attributes, which combinations belong to which split, and how scenes are sampled.

A scene is a background and one to three groups of objects; a group is one or more equal objects with a shape,
colour, pattern, size, count and place. Everything is a frozen value, so two scenes are the same picture content
exactly when they compare equal: that is what makes the benchmark's ground truth exact.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

SHAPES = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "diamond")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
PATTERNS = ("plain", "striped", "dotted")
SIZES = ("small", "big")
COUNTS = (1, 2, 3, 4)
PLACES = ("left", "right", "top", "bottom", "middle")
BACKGROUNDS = ("paper", "grass", "sand", "night", "water", "bricks")

#: Every attribute of a scene with one group, and its values.
ATTRIBUTES: dict[str, tuple[str | int, ...]] = {
    "shape": SHAPES,
    "colour": COLOURS,
    "pattern": PATTERNS,
    "size": SIZES,
    "count": COUNTS,
    "place": PLACES,
    "background": BACKGROUNDS,
}

SPLITS = ("train", "val", "test")
#: Share of the 192 (shape, colour, pattern) combinations that each split may draw.
SPLIT_SHARES = {"train": 0.75, "val": 0.10, "test": 0.15}
#: Several groups stand on one axis: side by side, or one above the other.
AXES = (("left", "middle", "right"), ("top", "middle", "bottom"))
#: How many equal objects a group may hold, by the number of groups in the scene (what fits without overlap).
MAX_COUNT = {1: 4, 2: 2, 3: 1}

_COMBINATION_SEED = 20261


@dataclass(frozen=True, order=True)
class Group:
    """One or more equal objects standing together."""

    shape: str
    colour: str
    pattern: str
    size: str
    count: int
    place: str

    @property
    def combination(self) -> tuple[str, str, str]:
        """The (shape, colour, pattern) triple that belongs to exactly one split."""
        return self.shape, self.colour, self.pattern


@dataclass(frozen=True)
class Scene:
    """A background with one to three groups, ordered by place so that equal content compares equal."""

    groups: tuple[Group, ...]
    background: str

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "groups", tuple(sorted(self.groups, key=lambda group: PLACES.index(group.place)))
        )

    def replace(self, old: Group, *new: Group) -> Scene:
        """The scene with `old` replaced by the groups `new` (none: removed)."""
        return Scene(tuple(g for g in self.groups if g != old) + new, self.background)

    @property
    def axis(self) -> tuple[str, ...]:
        """The axis that all groups stand on; for a single group, the one its place lies on."""
        places = {group.place for group in self.groups}
        return next(axis for axis in AXES if places <= set(axis))


def is_drawable(scene: Scene) -> bool:
    """Whether the groups fit: distinct places on one axis, distinct shapes, counts that do not overlap."""
    places = {group.place for group in scene.groups}
    limit = MAX_COUNT.get(len(scene.groups), 0)
    return (
        1 <= len(scene.groups) == len(places)
        and any(places <= set(axis) for axis in AXES)
        and len({group.shape for group in scene.groups}) == len(scene.groups)
        and all(1 <= group.count <= limit for group in scene.groups)
    )


@cache
def combinations(split: str) -> tuple[tuple[str, str, str], ...]:
    """The (shape, colour, pattern) triples of a split; the three splits are disjoint and cover all 192.

    Every (shape, colour) pair stands in train under at least one pattern: what is unseen is the combination, not
    the pair. Raises `KeyError` for an unknown split.
    """
    rng = random.Random(_COMBINATION_SEED)
    kept_in_train = [(s, c, rng.choice(PATTERNS)) for s in SHAPES for c in COLOURS]
    others = [
        (s, c, p) for s in SHAPES for c in COLOURS for p in PATTERNS if (s, c, p) not in set(kept_in_train)
    ]
    rng.shuffle(others)
    total = len(kept_in_train) + len(others)
    test_end = round(SPLIT_SHARES["test"] * total)
    val_end = test_end + round(SPLIT_SHARES["val"] * total)
    parts = {
        "test": others[:test_end],
        "val": others[test_end:val_end],
        "train": kept_in_train + others[val_end:],
    }
    return tuple(sorted(parts[split]))


@cache
def _combination_set(split: str) -> frozenset[tuple[str, str, str]]:
    return frozenset(combinations(split))


def belongs_to(scene: Scene, split: str) -> bool:
    """Whether every group's combination is one of the split's, and the scene can be drawn."""
    allowed = _combination_set(split)
    return is_drawable(scene) and all(group.combination in allowed for group in scene.groups)


def sample_group(rng: random.Random, split: str, place: str, max_count: int) -> Group:
    """A random group of the split at `place`, with 1…max_count objects."""
    shape, colour, pattern = rng.choice(combinations(split))
    return Group(shape, colour, pattern, rng.choice(SIZES), rng.randint(1, max_count), place)


def sample_scene(rng: random.Random, split: str, groups: int | None = None) -> Scene:
    """A random scene of the split with `groups` groups (None: 1, 2 or 3 with odds 6 : 3 : 1)."""
    number = groups or rng.choices((1, 2, 3), weights=(6, 3, 1))[0]
    while True:
        places = rng.sample(rng.choice(AXES), number) if number > 1 else [rng.choice(PLACES)]
        drawn = tuple(sample_group(rng, split, place, MAX_COUNT[number]) for place in places)
        scene = Scene(drawn, rng.choice(BACKGROUNDS))
        if is_drawable(scene):
            return scene
