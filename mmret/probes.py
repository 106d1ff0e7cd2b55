"""What the miniature CLIP has learnt: zero-shot accuracy for each attribute, and binding in scenes of two groups.

Accuracy: pictures of one group with unseen (test) combinations; each attribute value is a prompt ensemble, captions
that mention that attribute alone ("a photo of a striped thing"), whose normalised embeddings are averaged as in
CLIP (arXiv 2103.00020, section 3.1.4). As its templates there, the described scenes are the same for all values of
an attribute, but for that value: what else a caption gives away, such as the grammatical number of "things", is
equal for all. Binding: a scene's caption against the same words with two groups' colours exchanged.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from mmret.backbones.base import Backbone
from mmret.data.miniature.draw import draw
from mmret.data.miniature.language import describe
from mmret.data.miniature.scene import ATTRIBUTES, Group, Scene, sample_scene

#: Captions in each value's prompt ensemble.
PROMPTS_A_VALUE = 64
_BATCH = 256


@dataclass(frozen=True)
class ProbeResult:
    """Accuracies in 0…1: `accuracy` and `chance` by attribute, `binding` (chance ½) and the pictures each used."""

    accuracy: dict[str, float]
    chance: dict[str, float]
    binding: float
    pictures: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON record, rounded to four decimals."""
        rounded = {name: round(value, 4) for name, value in self.accuracy.items()}
        chance = {name: round(value, 4) for name, value in self.chance.items()}
        return {
            "accuracy": rounded,
            "chance": chance,
            "binding": round(self.binding, 4),
            "pictures": self.pictures,
        }


def probe(backbone: Backbone, pictures: int = 2000, seed: int = 0) -> ProbeResult:
    """Measure a backbone on `pictures` scenes of one group, and as many of two groups for binding."""
    rng = random.Random(f"probe/{seed}")
    scenes = [sample_scene(rng, "test", 1) for _ in range(pictures)]
    images = _embed_images(backbone, scenes, rng)
    accuracy = {name: _accuracy(backbone, images, scenes, name, rng) for name in ATTRIBUTES}
    chance = {name: 1 / len(values) for name, values in ATTRIBUTES.items()}
    return ProbeResult(accuracy, chance, _binding(backbone, pictures, rng), pictures)


def _accuracy(
    backbone: Backbone, images: torch.Tensor, scenes: Sequence[Scene], name: str, rng: random.Random
) -> float:
    values = ATTRIBUTES[name]
    described = [(sample_scene(rng, "train", 1), rng.getrandbits(32)) for _ in range(PROMPTS_A_VALUE)]
    classes = torch.stack([_ensemble(backbone, name, value, described) for value in values])
    predicted = (images @ classes.T).argmax(dim=1).numpy()
    true = np.array([values.index(_value(scene, name)) for scene in scenes])
    return float((predicted == true).mean())


def _value(scene: Scene, name: str) -> str | int:
    value: str | int = scene.background if name == "background" else getattr(scene.groups[0], name)
    return value


def _ensemble(
    backbone: Backbone, name: str, value: str | int, described: Sequence[tuple[Scene, int]]
) -> torch.Tensor:
    """The class vector [D] of one attribute value: the normalised mean of its captions' normalised embeddings.

    `described`: scenes, whose value is replaced, each with the seed of its caption's words.
    """
    texts = [
        describe(_with_value(scene, name, value), {name}, random.Random(seed)) for scene, seed in described
    ]
    return F.normalize(_embed_texts(backbone, texts).mean(dim=0), dim=0)


def _with_value(scene: Scene, name: str, value: str | int) -> Scene:
    if name == "background":
        return replace(scene, background=str(value))
    group: Group = replace(scene.groups[0], **{name: value})  # type: ignore[arg-type]
    return Scene((group,), scene.background)


def _binding(backbone: Backbone, pictures: int, rng: random.Random) -> float:
    """How often a two-group picture is nearer to its caption than to the one with the colours exchanged."""
    scenes: list[Scene] = []
    while len(scenes) < pictures:
        scene = sample_scene(rng, "test", 2)
        if scene.groups[0].colour != scene.groups[1].colour:
            scenes.append(scene)
    said = {"shape", "colour"}
    states = [rng.getrandbits(32) for _ in scenes]
    right = [describe(scene, said, random.Random(state)) for scene, state in zip(scenes, states, strict=True)]
    wrong = [
        describe(_exchanged(scene), said, random.Random(state))
        for scene, state in zip(scenes, states, strict=True)
    ]
    images = _embed_images(backbone, scenes, rng)
    nearer = (images * _embed_texts(backbone, right)).sum(1) > (images * _embed_texts(backbone, wrong)).sum(1)
    return float(nearer.float().mean())


def _exchanged(scene: Scene) -> Scene:
    first, second = scene.groups
    return Scene(
        (replace(first, colour=second.colour), replace(second, colour=first.colour)), scene.background
    )


@torch.no_grad()
def _embed_images(backbone: Backbone, scenes: Sequence[Scene], rng: random.Random) -> torch.Tensor:
    drawn: list[Image.Image] = [draw(scene, rng.getrandbits(32)) for scene in scenes]
    batches = [drawn[i : i + _BATCH] for i in range(0, len(drawn), _BATCH)]
    features = [
        backbone.encode_images(torch.stack([backbone.transform(image) for image in batch]))
        for batch in batches
    ]
    return F.normalize(torch.cat(features), dim=-1).cpu()


@torch.no_grad()
def _embed_texts(backbone: Backbone, texts: Sequence[str]) -> torch.Tensor:
    batches = [texts[i : i + _BATCH] for i in range(0, len(texts), _BATCH)]
    features = [backbone.encode_text(backbone.tokenize(batch)) for batch in batches]
    return F.normalize(torch.cat(features), dim=-1).cpu()
