"""The miniature world as data: a training set, text-only triplets and a composed-retrieval benchmark.

Version 2, seed 20260. Everything that trains draws train combinations of (shape, colour, pattern, background) and
speaks captions or edit bank A; val and test draw their own combinations and ask in edit bank B.

The benchmark follows CIRCO: several targets a query, the reference stays in the gallery (`remove_reference` is
False), and recall of truth is complete, since an image is relevant exactly when its scene equals the edited one.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

from PIL import Image

from mmret.data.benchmark import Benchmark, Query
from mmret.data.miniature.draw import draw
from mmret.data.miniature.edits import KINDS, Edit, sample_edit
from mmret.data.miniature.language import MENTION, caption, describe
from mmret.data.miniature.scene import Scene, sample_scene
from mmret.data.protocol import Protocol
from mmret.data.text_triplets import TextTriplet
from mmret.errors import InputError

NAME = "miniature"
VERSION = "2"
SEED = 20260
#: Queries per split, and edits of one reference scene.
QUERIES = {"val": 800, "test": 2400}
EDITS_A_REFERENCE = 4
#: Pictures drawn of a target scene (by jitter and noise alone they differ), and one-attribute distractors of it.
PICTURES_A_TARGET = (1, 2, 3)
DISTRACTORS_A_TARGET = 2
#: Edits that change one attribute.
ONE_ATTRIBUTE = tuple(kind for kind in KINDS if kind not in ("add", "remove"))
#: How often the stand-in for a captioner mentions each attribute beyond shape, colour and count.
CAPTIONER_MENTIONS = 0.5
METRICS = ("map@10 (÷ min)", "success@1", "success@10", "recall@10")


@dataclass(frozen=True)
class Drawing:
    """What an image id stands for: a scene and the seed it is drawn with."""

    scene: Scene
    seed: int


@dataclass(frozen=True)
class MiniatureImages:
    """Images that are drawn when they are read; an `ImageSource` without files."""

    drawings: dict[str, Drawing]

    @property
    def ids(self) -> Sequence[str]:
        """The image ids, in order of creation."""
        return tuple(self.drawings)

    def read(self, image_id: str) -> Image.Image:
        """The picture, RGB, 64 × 64 pixels; raises `InputError` for an unknown id."""
        if image_id not in self.drawings:
            raise InputError(f"The miniature world has no image {image_id!r}.")
        drawing = self.drawings[image_id]
        return draw(drawing.scene, drawing.seed)

    def stamp(self, image_id: str) -> str:
        """The version of the world, which decides every pixel."""
        return f"v{VERSION}"


@dataclass
class _Gallery:
    """A split's images while it grows: ids count up, equal scenes are remembered together."""

    split: str
    drawings: dict[str, Drawing] = field(default_factory=dict)
    by_scene: dict[Scene, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, scene: Scene, rng: random.Random) -> str:
        """Draw one more picture of the scene; returns its id."""
        name = f"{self.split}-{len(self.drawings):05d}"
        self.drawings[name] = Drawing(scene, rng.getrandbits(32))
        self.by_scene[scene].append(name)
        return name

    def ensure(self, scene: Scene, pictures: int, rng: random.Random) -> None:
        """Have at least that many pictures of the scene."""
        for _ in range(pictures - len(self.by_scene.get(scene, ()))):
            self.add(scene, rng)


def _sample_edits(scene: Scene, rng: random.Random, split: str) -> list[Edit]:
    """Up to `EDITS_A_REFERENCE` edits of different kinds, with different results."""
    edits: dict[Scene, Edit] = {}
    for kind in rng.sample(KINDS, len(KINDS)):
        edit = sample_edit(scene, kind, rng, split)
        if edit is not None and len(edits) < EDITS_A_REFERENCE:
            edits.setdefault(edit.target, edit)
    return list(edits.values())


def _distractors(edit: Edit, rng: random.Random, split: str) -> Iterator[Scene]:
    """Scenes one attribute away from the target."""
    for kind in rng.sample(ONE_ATTRIBUTE, DISTRACTORS_A_TARGET):
        neighbour = sample_edit(edit.target, kind, rng, split)
        if neighbour is not None:
            yield neighbour.target


@dataclass(frozen=True)
class SceneQuery:
    """A query with its scenes: what the annotators of a real benchmark would have seen."""

    id: str
    reference: str
    scene: Scene
    edit: Edit
    text: str


@cache
def _build(split: str) -> tuple[_Gallery, tuple[SceneQuery, ...]]:
    rng = random.Random(f"{SEED}/{VERSION}/{split}")
    gallery, queries = _Gallery(split), list[SceneQuery]()
    while len(queries) < QUERIES[split]:
        scene = sample_scene(rng, split)
        if scene in gallery.by_scene:
            continue
        reference = gallery.add(scene, rng)
        for edit in _sample_edits(scene, rng, split):
            gallery.ensure(edit.target, rng.choice(PICTURES_A_TARGET), rng)
            for other in _distractors(edit, rng, split):
                gallery.ensure(other, 1, rng)
            name = f"{split}-q{len(queries):04d}"
            queries.append(SceneQuery(name, reference, scene, edit, edit.text("B", rng)))
    return gallery, tuple(queries[: QUERIES[split]])


def scene_queries(split: str) -> tuple[SceneQuery, ...]:
    """The split's queries with their scenes (for caption files and analyses)."""
    _check_split(split)
    return _build(split)[1]


def miniature_images(split: str) -> MiniatureImages:
    """The pictures of the benchmark's split, with the scenes they show."""
    _check_split(split)
    return MiniatureImages(_build(split)[0].drawings)


def miniature_benchmark(split: str) -> Benchmark:
    """The composed-retrieval benchmark of a split, "val" or "test"; the same on every machine.

    Raises `InputError` for another split.
    """
    _check_split(split)
    gallery, scenes = _build(split)
    queries = tuple(
        Query(
            q.id,
            q.reference,
            (q.text,),
            dict.fromkeys(gallery.by_scene[q.edit.target], 1),
            (),
            {"edit": q.edit.kind},
        )
        for q in scenes
    )
    images = MiniatureImages(gallery.drawings)
    return Benchmark(
        NAME,
        VERSION,
        split,
        images,
        tuple(gallery.drawings),
        queries,
        Protocol(remove_reference=False),
        METRICS,
    )


def caption_edits(split: str, count: int = 1) -> list[dict[str, str | list[str]]]:
    """For each query of a split what a captioner and a language model would give, in CIReVL's record layout.

    The captioner names the shapes, colours and counts and half of the other attributes; the editor rewrites that
    caption for the edited scene and mentions what the edit changed. So the text knows the edit exactly and the
    reference in part, as captions of real photos do. With a `count` above 1 they do so that many times for every
    query, as LDRE's and SEIZE's do: lists of captions and of edits, the i-th of one from the i-th of the other.
    """
    rng = random.Random(f"{SEED}/{VERSION}/{split}/caption-edits")
    return [_caption_edit(query, rng, count) for query in scene_queries(split)]


def _caption_edit(query: SceneQuery, rng: random.Random, count: int) -> dict[str, str | list[str]]:
    pairs = [_describe_both(query, rng) for _ in range(count)]
    before, after = ([pair[side] for pair in pairs] for side in (0, 1))
    return {
        "id": query.id,
        "base_caption": before[0] if count == 1 else before,
        "instruction": query.text,
        "modified_captions": after[0] if count == 1 else after,
    }


def _describe_both(query: SceneQuery, rng: random.Random) -> tuple[str, str]:
    """A caption of the reference, and the same caption edited."""
    optional = ("size", "pattern", "place", "background")
    said = {"shape", "colour", "count"} | {name for name in optional if rng.random() < CAPTIONER_MENTIONS}
    return describe(query.scene, said, rng), describe(query.edit.target, said | {query.edit.kind}, rng)


def _check_split(split: str) -> None:
    if split not in QUERIES:
        raise InputError(f"The miniature benchmark has no split {split!r}; it has {' and '.join(QUERIES)}.")


class CaptionedScenes(Sequence[tuple[Image.Image, str]]):
    """Training pairs (image, caption), drawn when read: item i is a pure function of (seed, i).

    The first `single` pairs show one group each, from which words are learnt fastest; the others show one to three.
    All scenes have train combinations. Raises `IndexError` past the end.
    """

    def __init__(self, length: int, single: int = 0, seed: int = SEED) -> None:
        self.length, self.single, self.seed = length, single, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Image.Image, str]:  # type: ignore[override]
        if not 0 <= index < self.length:
            raise IndexError(index)
        scene, seed, text = self._describe(index)
        return draw(scene, seed), text

    @property
    def texts(self) -> list[str]:
        """The caption of every item; nothing is drawn."""
        return [self._describe(index)[2] for index in range(self.length)]

    @property
    def owners(self) -> list[int]:
        """Every item is an image of its own."""
        return list(range(self.length))

    def _describe(self, index: int) -> tuple[Scene, int, str]:
        """An item's scene, the seed it is drawn with, and its caption."""
        rng = random.Random(f"{self.seed}/train/{index}")
        scene = sample_scene(rng, "train", 1 if index < self.single else None)
        return scene, rng.getrandbits(32), caption(scene, rng)


def training_captions(number: int, seed: int = SEED) -> list[str]:
    """Captions of train scenes, text only (for LinCIR)."""
    rng = random.Random(f"{seed}/captions")
    return [caption(sample_scene(rng, "train"), rng) for _ in range(number)]


def training_images(number: int, seed: int = SEED) -> MiniatureImages:
    """Pictures of train scenes without captions: image i is a pure function of (seed, i)."""
    drawings = {}
    for index in range(number):
        rng = random.Random(f"{seed}/images/{index}")
        drawings[f"train-{index:06d}"] = Drawing(sample_scene(rng, "train"), rng.getrandbits(32))
    return MiniatureImages(drawings)


def text_triplets(number: int, seed: int = SEED, bank: str = "A") -> list[TextTriplet]:
    """Text-only triplets of train scenes, edits in the given bank (B only to measure what shared ones give).

    As an editor of captions does, the target's caption mentions what the reference's does and what the edit changed,
    in other words; so the two captions always differ.
    """
    rng = random.Random(f"{seed}/triplets/{bank}")
    triplets: list[TextTriplet] = []
    while len(triplets) < number:
        scene = sample_scene(rng, "train")
        edit = sample_edit(scene, rng.choice(KINDS), rng, "train")
        if edit is not None:
            said = {name for name, share in MENTION.items() if rng.random() < share}
            texts = (
                describe(scene, said, rng),
                edit.text(bank, rng),
                describe(edit.target, said | {edit.kind}, rng),
            )
            triplets.append(TextTriplet(*texts))
    return triplets
