import random
from collections import Counter

import pytest

from mmret.data.miniature.scene import (
    BACKGROUNDS,
    COLOURS,
    PATTERNS,
    SHAPES,
    SPLITS,
    Group,
    Scene,
    belongs_to,
    combinations,
    is_drawable,
    sample_scene,
)

RING = Group("ring", "red", "plain", "big", 2, "left")
STAR = Group("star", "blue", "dotted", "small", 1, "right")


def test_splits_share_no_combination_and_cover_all() -> None:
    parts = {split: set(combinations(split)) for split in SPLITS}
    assert sum(map(len, parts.values())) == len(set().union(*parts.values())) == 8 * 8 * 3 * 6
    assert [len(parts[split]) for split in SPLITS] == [749, 173, 230]


@pytest.mark.parametrize("split", SPLITS)
def test_every_value_stands_in_every_split(split: str) -> None:
    values = [set(column) for column in zip(*combinations(split), strict=True)]
    assert values == [set(SHAPES), set(COLOURS), set(PATTERNS), set(BACKGROUNDS)]


def test_what_is_unseen_is_the_combination_of_all_four() -> None:
    """Else a shape could be guessed from what it never stands with: triples are nearly all seen, pairs evenly."""
    train = combinations("train")
    assert len({combination[:3] for combination in train}) >= 8 * 8 * 3 - 1
    pairs = Counter((shape, colour) for shape, colour, _, _ in train)
    assert len(pairs) == 8 * 8
    assert min(pairs.values()) >= 6


def test_equal_content_is_equal_whatever_the_order_of_groups() -> None:
    assert Scene((RING, STAR), "grass") == Scene((STAR, RING), "grass")
    assert Scene((RING, STAR), "grass") != Scene((RING, STAR), "sand")


@pytest.mark.parametrize(
    ("scene", "drawable"),
    [
        (Scene((RING, STAR), "sand"), True),
        (Scene((), "sand"), False),
        (Scene((RING, Group("star", "blue", "dotted", "small", 1, "left")), "sand"), False),  # one place
        (Scene((RING, Group("star", "blue", "dotted", "small", 1, "top")), "sand"), False),  # no common axis
        (Scene((RING, Group("ring", "blue", "dotted", "small", 1, "right")), "sand"), False),  # one shape
        (Scene((RING, Group("star", "blue", "dotted", "small", 3, "right")), "sand"), False),  # too many
        (Scene((Group("star", "blue", "dotted", "small", 4, "top"),), "sand"), True),
    ],
)
def test_what_can_be_drawn(scene: Scene, drawable: bool) -> None:
    assert is_drawable(scene) is drawable


@pytest.mark.parametrize("split", SPLITS)
def test_sampled_scenes_belong_to_their_split_alone(split: str) -> None:
    rng = random.Random(0)
    scenes = [sample_scene(rng, split) for _ in range(200)]
    assert {len(scene.groups) for scene in scenes} == {1, 2, 3}
    assert all(belongs_to(scene, split) for scene in scenes)
    assert not any(belongs_to(scene, other) for scene in scenes for other in SPLITS if other != split)
