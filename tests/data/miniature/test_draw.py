import random
from dataclasses import replace

import numpy as np
import pytest

from mmret.data.miniature.draw import RGB, SIZE, draw
from mmret.data.miniature.scene import BACKGROUNDS, COUNTS, PLACES, SHAPES, Group, Scene, sample_scene

GROUP = Group("square", "red", "plain", "big", 1, "middle")


def pixels(group: Group, background: str = "paper", seed: int = 1) -> np.ndarray:
    return np.asarray(draw(Scene((group,), background), seed)).astype(int)


def coloured(group: Group, seed: int = 1) -> np.ndarray:
    """Which pixels are nearer to the group's colour than to white paper or the dark outline."""
    picture = pixels(group, seed=seed)
    others = [(245, 243, 238), tuple(channel // 2 for channel in RGB[group.colour])]
    distances = [np.abs(picture - np.array(colour)).sum(axis=2) for colour in (RGB[group.colour], *others)]
    return np.argmin(distances, axis=0) == 0


def test_a_picture_is_a_function_of_scene_and_seed() -> None:
    scene = sample_scene(random.Random(3), "train")
    first, again, other = (np.asarray(draw(scene, seed)) for seed in (5, 5, 6))
    assert first.shape == (SIZE, SIZE, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("place", PLACES)
def test_a_group_stands_where_it_should(place: str) -> None:
    rows, columns = np.nonzero(coloured(replace(GROUP, place=place)))
    x, y = columns.mean() - SIZE / 2, rows.mean() - SIZE / 2
    wanted = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1), "middle": (0, 0)}[place]
    assert (round(x / 17), round(y / 17)) == wanted


def test_more_objects_take_more_room() -> None:
    areas = [coloured(replace(GROUP, size="small", count=count)).sum() for count in COUNTS]
    assert [round(area / areas[0]) for area in areas] == list(COUNTS)


def test_big_is_bigger_than_small_for_every_shape() -> None:
    for shape in SHAPES:
        small, big = (coloured(replace(GROUP, shape=shape, size=size)).sum() for size in ("small", "big"))
        assert big > 1.8 * small


@pytest.mark.parametrize("pattern", ["striped", "dotted"])
def test_a_pattern_lets_white_through(pattern: str) -> None:
    plain, patterned = (coloured(replace(GROUP, pattern=name)).sum() for name in ("plain", pattern))
    assert 0.3 * plain < patterned < 0.95 * plain


def test_backgrounds_differ() -> None:
    corners = [pixels(GROUP, background)[:12, :12].reshape(-1, 3) for background in BACKGROUNDS]
    signatures = {tuple((corner.mean(axis=0) / 8).round().astype(int)) for corner in corners}
    assert len(signatures) == len(BACKGROUNDS)
