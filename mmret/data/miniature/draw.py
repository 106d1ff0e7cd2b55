"""Draws miniature scenes with Pillow: 64 × 64 RGB, with jitter, colour variation and sensor noise.

Every picture is a pure function of (scene, seed), so a gallery needs no files: it is drawn when it is read.
"""

from __future__ import annotations

import math
import random
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mmret.data.miniature.scene import Group, Scene

Pixels = NDArray[Any]

SIZE = 64
#: Shapes are drawn at twice the size and reduced, which anti-aliases their edges.
SCALE = 2

RGB = {
    "red": (214, 39, 40),
    "orange": (250, 140, 20),
    "yellow": (248, 220, 40),
    "green": (40, 170, 60),
    "blue": (40, 90, 220),
    "purple": (130, 50, 180),
    "pink": (250, 140, 190),
    "brown": (125, 75, 35),
}
RADIUS = {"small": (7.0, 7.6), "big": (10.6, 11.4)}
#: Distance of the side places from the centre: a lone group, and groups that share an axis.
REACH_ALONE, REACH_SHARED = 17.0, 20.5
NOISE = 5.0

_DIRECTION = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1), "middle": (0, 0)}


def _star(points: int, inner: float) -> list[tuple[float, float]]:
    angles = [math.pi * i / points - math.pi / 2 for i in range(2 * points)]
    return [(math.cos(a) * (1, inner)[i % 2], math.sin(a) * (1, inner)[i % 2]) for i, a in enumerate(angles)]


def _heart() -> list[tuple[float, float]]:
    turns = [2 * math.pi * i / 24 for i in range(24)]
    curve = [
        (
            16 * math.sin(t) ** 3,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)),
        )
        for t in turns
    ]
    return [(x / 16, y / 16) for x, y in curve]


_THIRD = 0.36
#: Outlines in a box of −1…1, drawn clockwise from the top.
POLYGONS: dict[str, list[tuple[float, float]]] = {
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "triangle": [(0, -1), (1, 0.8), (-1, 0.8)],
    "star": _star(5, 0.42),
    "heart": _heart(),
    "diamond": [(0, -1.1), (0.72, 0), (0, 1.1), (-0.72, 0)],
    "cross": [
        (-_THIRD, -1), (_THIRD, -1), (_THIRD, -_THIRD), (1, -_THIRD), (1, _THIRD), (_THIRD, _THIRD),
        (_THIRD, 1), (-_THIRD, 1), (-_THIRD, _THIRD), (-1, _THIRD), (-1, -_THIRD), (-_THIRD, -_THIRD),
    ],
}  # fmt: skip


@cache
def _background(name: str, variant: int) -> Image.Image:
    """One of 16 fixed paintings of a background (drawing it anew for every picture would double the cost)."""
    rng = np.random.default_rng([variant, *name.encode()])
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    return Image.fromarray(_PAINTERS[name](rng, rows, columns).clip(0, 255).astype(np.uint8))


def _flat(colour: tuple[int, int, int]) -> Pixels:
    return np.tile(np.array(colour, dtype=np.float32), (SIZE, SIZE, 1))


def _paper(rng: np.random.Generator, rows: Pixels, columns: Pixels) -> Pixels:
    return _flat((245, 243, 238)) + rng.integers(-6, 4)


def _grass(rng: np.random.Generator, rows: Pixels, columns: Pixels) -> Pixels:
    blades = rng.random((SIZE, SIZE)) < 0.25
    shade: Pixels = blades[..., None] * np.array([45, 30, 50])
    return _flat((150, 205, 120)) - shade + rng.integers(-8, 8)


def _sand(rng: np.random.Generator, rows: Pixels, columns: Pixels) -> Pixels:
    grains = rng.normal(0, 9, (SIZE, SIZE, 1))
    return _flat((232, 208, 160)) + grains + rng.integers(-6, 6)


def _night(rng: np.random.Generator, rows: Pixels, columns: Pixels) -> Pixels:
    lights = rng.random((SIZE, SIZE, 1)) < 0.012
    glow: Pixels = lights * 190.0
    return _flat((28, 30, 58)) + glow + rng.integers(-6, 8)


def _water(rng: np.random.Generator, rows: Pixels, columns: Pixels) -> Pixels:
    waves: Pixels = 12 * np.sin(rows / 1.7 + 1.5 * np.sin(columns / 5 + rng.random() * 6))
    return _flat((150, 205, 232)) + waves[..., None]


def _bricks(rng: np.random.Generator, rows: Pixels, columns: Pixels) -> Pixels:
    offset = (rows // 8 % 2) * 8 + rng.integers(0, 8)
    mortar = (rows % 8 == 0) | ((columns + offset) % 16 == 0)
    light: Pixels = mortar[..., None] * np.array([34, 64, 70])
    return _flat((196, 150, 138)) + light + rng.integers(-8, 8)


_PAINTERS = {
    "paper": _paper,
    "grass": _grass,
    "sand": _sand,
    "night": _night,
    "water": _water,
    "bricks": _bricks,
}


def _offsets(count: int, pitch: float, stacked: bool) -> list[tuple[float, float]]:
    """Centres of a group's objects around the group's own centre, in pixels."""
    half = pitch / 2
    if count == 1:
        return [(0, 0)]
    if count == 2:
        return [(0, -half), (0, half)] if stacked else [(-half, 0), (half, 0)]
    if count == 3:
        return [(0, -half), (-half, half), (half, half)]
    return [(-half, -half), (half, -half), (-half, half), (half, half)]


def _centres(scene: Scene, group: Group, radius: float, rng: random.Random) -> list[tuple[float, float]]:
    """Object centres in pixels: the group's place, its arrangement, a jitter, and everything inside the frame."""
    alone = len(scene.groups) == 1
    reach = REACH_ALONE if alone else REACH_SHARED
    dx, dy = _DIRECTION[group.place]
    stacked = rng.random() < 0.5 if alone else scene.axis[0] == "left"
    offsets = _offsets(group.count, 2 * radius + 1.5, stacked)
    x, y = SIZE / 2 + reach * dx + rng.uniform(-1.5, 1.5), SIZE / 2 + reach * dy + rng.uniform(-1.5, 1.5)
    extent_x, extent_y = (max(abs(o[i]) for o in offsets) + radius for i in (0, 1))
    x, y = min(max(x, extent_x), SIZE - extent_x), min(max(y, extent_y), SIZE - extent_y)
    return [(x + ox, y + oy) for ox, oy in offsets]


def _draw_shape(
    draw: ImageDraw.ImageDraw, shape: str, box_centre: tuple[float, float], radius: float, **ink: object
) -> None:
    x, y = box_centre
    if shape in ("circle", "ring"):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), **ink)  # type: ignore[arg-type]
    else:
        draw.polygon([(x + radius * px, y + radius * py) for px, py in POLYGONS[shape]], **ink)  # type: ignore[arg-type]


def _stamp(group: Group, radius: float, fill: tuple[int, int, int]) -> tuple[Image.Image, Image.Image]:
    """One object as (picture, mask), at `SCALE`: the coloured shape with its outline and pattern."""
    r = radius * SCALE
    side = math.ceil(2 * r * 1.12) + 4
    centre = (side / 2, side / 2)
    mask = Image.new("L", (side, side))
    on_mask = ImageDraw.Draw(mask)
    _draw_shape(on_mask, group.shape, centre, r, fill=255)
    if group.shape == "ring":
        _draw_shape(on_mask, "circle", centre, r * 0.42, fill=0)
    picture = Image.new("RGB", (side, side), fill)
    draw = ImageDraw.Draw(picture)
    _draw_pattern(draw, group.pattern, side, pitch=10 if group.size == "small" else 12)
    outline = tuple(channel // 2 for channel in fill)
    _draw_shape(draw, group.shape, centre, r, outline=outline, width=SCALE)
    return picture, mask


def _draw_pattern(draw: ImageDraw.ImageDraw, pattern: str, side: int, pitch: int) -> None:
    """White bands, or white dots in a grid, over the whole stamp (the mask cuts them to the shape)."""
    white, mark = (252, 252, 252), pitch // 2 - 1
    start = side // 2 % pitch - pitch
    if pattern == "striped":
        for top in range(start, side, pitch):
            draw.rectangle((0, top, side, top + mark), fill=white)
    elif pattern == "dotted":
        for row, top in enumerate(range(start, side, pitch)):
            for left in range(start + (row % 2) * pitch // 2, side, pitch):
                draw.ellipse((left, top, left + mark + 1, top + mark + 1), fill=white)


def _vary(colour: tuple[int, int, int], rng: random.Random) -> tuple[int, int, int]:
    r, g, b = (max(0, min(255, channel + rng.randint(-14, 14))) for channel in colour)
    return r, g, b


def _paste_group(canvas: Image.Image, scene: Scene, group: Group, rng: random.Random) -> None:
    radius = rng.uniform(*RADIUS[group.size])
    picture, mask = _stamp(group, radius, _vary(RGB[group.colour], rng))
    angle = rng.uniform(-8, 8)
    picture, mask = (layer.rotate(angle, Image.Resampling.BILINEAR) for layer in (picture, mask))
    side = picture.width // SCALE
    picture, mask = (layer.resize((side, side), Image.Resampling.BOX) for layer in (picture, mask))
    for x, y in _centres(scene, group, radius, rng):
        canvas.paste(picture, (round(x - side / 2), round(y - side / 2)), mask)


def draw(scene: Scene, seed: int) -> Image.Image:
    """The scene as an RGB picture of 64 × 64 pixels; the same (scene, seed) gives the same pixels."""
    rng = random.Random(seed)
    canvas = _background(scene.background, rng.randrange(16)).copy()
    for group in scene.groups:
        _paste_group(canvas, scene, group, rng)
    pixels = np.asarray(canvas, dtype=np.int16)
    noise = _noise_bank()[rng.randrange(64)]
    gain = rng.uniform(0.92, 1.06)
    return Image.fromarray((pixels * gain + noise).clip(0, 255).astype(np.uint8))


@cache
def _noise_bank() -> Pixels:
    """64 fixed fields of sensor noise, int8 [64, 64, 64, 3], σ = 5 grey levels."""
    return np.random.default_rng(0).normal(0, NOISE, (64, SIZE, SIZE, 3)).round().astype(np.int8)
