"""What a CLIP is for, in miniature: captions and pictures that find one another, and attributes told zero-shot.

Three benchmarks of the miniature world that no reference image and no edit comes into: whether a tuned text encoder
stays the CLIP that it was. Version and combinations are those of the world's test (or val) split.
"""

import random
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

from mmret.data.benchmark import Benchmark, Query
from mmret.data.miniature.language import describe
from mmret.data.miniature.scene import ATTRIBUTES, Scene, sample_scene
from mmret.data.miniature.world import QUERIES, SEED, VERSION, Drawing, MiniatureImages
from mmret.data.protocol import Protocol
from mmret.errors import InputError

PAIRS: Final = 1_000
PICTURES: Final = 300
TEXT_TO_IMAGE, IMAGE_TO_TEXT, ATTRIBUTE = (
    "miniature-text-to-image",
    "miniature-image-to-text",
    "miniature-attributes",
)
NAMES: Final = (TEXT_TO_IMAGE, IMAGE_TO_TEXT, ATTRIBUTE)
_METRICS: Final = ("success@1", "success@5", "success@10")


@dataclass(frozen=True)
class _Captioned:
    """Pictures with their scenes, and a caption of each that mentions every attribute."""

    images: MiniatureImages
    captions: dict[str, str]


def caption_benchmark(name: str, split: str) -> Benchmark:
    """One of `NAMES` on the split "val" or "test"; raises `InputError` for others.

    `miniature-text-to-image` and `-image-to-text`: 1,000 pictures of different scenes and a full caption of each.
    `miniature-attributes`: 300 pictures of one group, 7 queries each, one an attribute; the candidates are captions
    that mention one value alone ("a photo of a striped thing"). success@1 is the zero-shot accuracy.
    """
    if name not in NAMES or split not in QUERIES:
        raise InputError(f"There is no {name}, split {split}; there are {', '.join(NAMES)}, val and test.")
    if name == ATTRIBUTE:
        return _attributes(split)
    pairs = _captioned(split)
    common = {"name": name, "version": VERSION, "split": split, "images": pairs.images, "metrics": _METRICS}
    captions = {f"{image}#0": text for image, text in pairs.captions.items()}
    if name == TEXT_TO_IMAGE:
        queries = tuple(Query(id, None, (text,), {id.partition("#")[0]: 1}) for id, text in captions.items())
        return Benchmark(gallery=tuple(pairs.captions), queries=queries, protocol=Protocol(), **common)  # type: ignore[arg-type]
    queries = tuple(Query(image, image, (), {f"{image}#0": 1}) for image in pairs.captions)
    gallery = tuple(captions)
    return Benchmark(gallery=gallery, queries=queries, protocol=Protocol(), texts=captions, **common)  # type: ignore[arg-type]


@cache
def _captioned(split: str) -> _Captioned:
    rng = random.Random(f"{SEED}/{VERSION}/{split}/pairs")
    scenes: dict[Scene, None] = {}
    while len(scenes) < PAIRS:
        scenes.setdefault(sample_scene(rng, split))
    drawings = {
        f"{split}-pair-{row:04d}": Drawing(scene, rng.getrandbits(32)) for row, scene in enumerate(scenes)
    }
    captions = {name: describe(item.scene, set(ATTRIBUTES), rng) for name, item in drawings.items()}
    return _Captioned(MiniatureImages(drawings), captions)


def _attributes(split: str) -> Benchmark:
    rng = random.Random(f"{SEED}/{VERSION}/{split}/attributes")
    scenes = [sample_scene(rng, split, 1) for _ in range(PICTURES)]
    drawings = {
        f"{split}-single-{row:04d}": Drawing(scene, rng.getrandbits(32)) for row, scene in enumerate(scenes)
    }
    texts = {
        f"{name}={value}": _prompt(name, value, scenes[0])
        for name in ATTRIBUTES
        for value in ATTRIBUTES[name]
    }
    pools = {name: tuple(f"{name}={value}" for value in ATTRIBUTES[name]) for name in ATTRIBUTES}
    queries = tuple(
        Query(
            f"{image}/{name}",
            image,
            (),
            {f"{name}={_value(item.scene, name)}": 1},
            pools[name],
            {"attribute": name},
        )
        for image, item in drawings.items()
        for name in ATTRIBUTES
    )
    return Benchmark(
        ATTRIBUTE, VERSION, split, MiniatureImages(drawings), tuple(texts), queries, Protocol(gallery="pool"),
        ("success@1",), texts=texts,
    )  # fmt: skip


def _prompt(attribute: str, value: Any, scene: Scene) -> str:
    """A caption that mentions the value alone, in the same words for all values of the attribute."""
    group, background = replace(scene.groups[0], count=1), scene.background
    if attribute == "background":
        background = value
    else:
        group = replace(group, **{attribute: value})
    return describe(Scene((group,), background), {attribute}, random.Random(0))


def _value(scene: Scene, attribute: str) -> str | int:
    found: str | int = scene.background if attribute == "background" else getattr(scene.groups[0], attribute)
    return found
