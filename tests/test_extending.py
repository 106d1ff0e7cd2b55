"""What docs/extending.md says is enough: each recipe followed by a toy, through the doors that a table goes through."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from mmret.backbones import load_backbone, resolve
from mmret.backbones.base import Backbone
from mmret.backbones.registry import LOADERS, Loader
from mmret.backbones.spec import BackboneSpec
from mmret.composition import ComposedFeatures, load_phi, phi_files, save_phi
from mmret.composition.composers import TextOnly
from mmret.composition.features import QueryBatch, l2_normalise
from mmret.composition.phi import NETWORKS, Phi
from mmret.composition.registry import COMPOSERS
from mmret.composition.scores import Composed, Doubles, Settled, SimilarityScores
from mmret.composition.scoring import SCORINGS
from mmret.data import load_benchmark
from mmret.data.benchmark import Benchmark, Protocol, Query
from mmret.data.catalogue import RELEASES
from mmret.data.images import FileImages
from mmret.data.published import Annotations, Release
from mmret.errors import InputError
from mmret.experiment import run_cell
from mmret.retrieval.run import Run
from mmret.retrieval.scored_rows import rank_scores
from mmret.run_methods import RUN_METHODS
from mmret.tables import load_spec, run_table
from mmret.tables.cells import CellRecord, CellRequest
from tests.methods.toy_data import COLOURS, write_backbone, write_world


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A folder with a tiny CLIP and three composed queries over six plain images."""
    write_backbone(tmp_path / "clip")
    write_world(tmp_path / "world")
    return tmp_path


def cells(world: Path, rows: Mapping[str, Mapping[str, Any]], **changes: Any) -> dict[str, CellRecord]:
    """What a table of these rows holds, by row, once it has run."""
    content = {
        "name": "toys",
        "backbone": str(world / "clip"),
        "benchmark": f"folder:{world / 'world'}",
        "split": "test",
        "metrics": ["recall@1"],
        "rows": [{"name": name, "label": name, **row} for name, row in rows.items()],
        **changes,
    }
    (world / "toys.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    table = run_table(load_spec(world / "toys.yaml"), run_cell, world / "runs")
    assert table.reasons == {}
    return {row: record for (row, _), record in table.records.items()}


class MeanColour(Backbone):
    """A backbone `toy:SIDE`: the mean colour of an image, squashed to so many pixels."""

    has_text = False

    def __init__(self, spec: BackboneSpec, precision: str = "fp32") -> None:
        super().__init__(spec, precision)
        self.scale = nn.Parameter(torch.ones(()))

    @classmethod
    def describe(cls, name: str) -> BackboneSpec:
        """The side is the name's."""
        side = int(name.removeprefix("toy:"))
        return BackboneSpec(
            name, "toy", "mean", "", f"mean-{side}", 6, "mean", "squash", side, 0, "none",
            mean=(0.0,) * 3, std=(1.0,) * 3,
        )  # fmt: skip

    @classmethod
    def load(cls, spec: BackboneSpec, precision: str, device: str) -> Self:
        """There is nothing to read."""
        return cls(spec, precision).to(device).freeze()

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Float32 [B, 6]: light and darkness of the three channels."""
        light = self.scale * pixels.mean(dim=(-2, -1))
        return torch.cat([light, 1 - light], dim=1)


def test_one_entry_makes_a_backbone(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unknown backbone 'toy:8'"):
        resolve("toy:8")
    monkeypatch.setitem(LOADERS, "toy", Loader(__name__, MeanColour.__name__, "SIDE"))
    assert resolve("toy:8", "letterbox").preprocess == "letterbox"
    assert load_backbone("toy:8").transform.size == 8
    with pytest.raises(InputError, match="toy:SIDE"):
        resolve("toi")
    record = cells(world, {"image": {"method": "image-only"}}, backbone="toy:8")["image"]
    run = Run.load(record.outcome.facts["run"])
    assert [run.ranking(query)[0][0] for query in run.query_ids] == ["white.png", "black.png", "yellow.png"]


@dataclass(frozen=True)
class Toy:
    """A composer that gives what `gives` says, from the text alone."""

    gives: str
    name: ClassVar[str] = "toy"
    takes_pdv: ClassVar[bool] = True

    def __call__(self, backbone: Any, batch: QueryBatch) -> Composed:
        """Three features, one vector, or a score of two similarities."""
        text = TextOnly()(backbone, batch)
        assert isinstance(text, Tensor)
        image = l2_normalise(batch.reference_image)
        if self.gives == "features":
            return ComposedFeatures(image, image, text)
        if self.gives == "vector":
            return text
        return SimilarityScores(torch.stack([image, text], dim=1), torch.zeros(len(text), 0), self.rule)

    def rule(self, similarities: Doubles, parameters: Doubles) -> Doubles:
        """The similarity to the text: what the one vector gives too."""
        scores: Doubles = similarities[1]
        return scores

    def describe(self) -> dict[str, Any]:
        """Name and kind."""
        return {"name": self.name, "gives": self.gives}


def by_image(features: Settled) -> Settled:
    """A scoring that asks for what is like the reference."""
    assert isinstance(features, ComposedFeatures)
    return features.reference_image


def test_one_entry_makes_a_composer_or_a_scoring(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMPOSERS, Toy.name, Toy)
    monkeypatch.setitem(SCORINGS, "by-image", lambda: by_image)
    methods = {gives: {"method": {"name": "toy", "gives": gives}} for gives in ("features", "vector", "rule")}
    pdv = {**methods["features"], "pdv": {"alpha_text": 1.0, "alpha_image": 0.0, "beta": 0.0}}
    scored = {**methods["features"], "scoring": "by-image"}
    found = cells(world, {**methods, "pdv": pdv, "scored": scored})
    runs = {row: Run.load(record.outcome.facts["run"]) for row, record in found.items()}
    rankings = {row: [dict(run.ranking(query)) for query in run.query_ids] for row, run in runs.items()}
    for row in ("features", "rule"):
        assert [list(each) for each in rankings[row]] == [list(each) for each in rankings["vector"]]
    # With β = 0 and α_I = 0 the query is the reference image, which PDV could take from the three features alone.
    for row in ("pdv", "scored"):
        assert [next(iter(each)) for each in rankings[row]] == ["white.png", "black.png", "yellow.png"]


class OneLayer(Phi):
    """A form of φ with one hidden layer."""

    KEYS = ("hidden.weight", "hidden.bias", "word.weight", "word.bias")

    def __init__(self, input_width: int, hidden_width: int, token_width: int, backbone: str | None) -> None:
        super().__init__(input_width, hidden_width, token_width, backbone)
        self.hidden, self.word = nn.Linear(input_width, hidden_width), nn.Linear(hidden_width, token_width)

    def words(self, features: Tensor) -> Tensor:
        """[B, T] of [B, D]."""
        words: Tensor = self.word(self.hidden(features).relu())
        return words


def test_one_entry_makes_a_form_of_phi(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phi = OneLayer(16, 5, 16, str(world / "clip"))
    save_phi(phi, world / "phi.safetensors")
    with pytest.raises(InputError, match="has the tensors"):
        load_phi(world / "phi.safetensors")
    monkeypatch.setattr(phi_files, "NETWORKS", (*NETWORKS, OneLayer))
    loaded = load_phi(world / "phi.safetensors")
    assert isinstance(loaded, OneLayer)
    assert loaded.widths == (16, 5, 16)
    method = {"name": "pseudo-word", "phi": str(world / "phi.safetensors")}
    assert cells(world, {"phi": {"method": method}})["phi"].outcome.config["method"]["phi"] == method["phi"]


def read_toys(root: Path, split: str, protocol: Protocol) -> Annotations:
    """Queries of a file in a layout of its own: pairs of a picture and the one that is meant."""
    pairs = json.loads((root / f"{split}.json").read_text(encoding="utf-8"))
    queries = tuple(Query(f"q{row}", old, ("the other",), {new: 1}) for row, (old, new) in enumerate(pairs))
    images = {f"{colour}.png": root / "images" / f"{colour}.png" for colour in COLOURS}
    return Annotations(queries, tuple(images), FileImages(images))


TOYS = Release(
    name="toys",
    folder="toys",
    version="1",
    counts={"val": {"queries": 2, "gallery entries": 6}},
    protocol=Protocol(remove_reference=True),
    metrics=("recall@1",),
    files=lambda root, split: (root / f"{split}.json",),
    read=read_toys,
    text_fields=("relative_caption",),
)


def test_one_entry_makes_a_benchmark(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RELEASES, TOYS.name, TOYS)
    monkeypatch.setenv("MMRET_DATA", str(world))
    (world / "world").rename(world / "toys")
    pairs = [["red.png", "blue.png"], ["blue.png", "red.png"]]
    (world / "toys/val.json").write_text(json.dumps(pairs[:1]))
    with pytest.raises(InputError, match="1 queries where the whole has 2"):
        load_benchmark("toys", "val")
    (world / "toys/val.json").write_text(json.dumps(pairs))
    record = cells(world, {"image": {"method": "image-only"}}, benchmark="toys", split="val")["image"]
    assert record.outcome.protocol["remove_reference"]
    run = Run.load(record.outcome.facts["run"])
    assert "red.png" not in dict(run.ranking("q0"))


def by_name(request: CellRequest, benchmark: Benchmark) -> Run:
    """The images whose names come late in the alphabet, for every query."""
    ids = sorted(benchmark.image_ids)
    scores = np.tile(np.arange(len(ids), dtype=np.float32) * request.method["sign"], (3, 1))
    return rank_scores([query.id for query in benchmark.queries], ids, scores, 3)


def test_two_entries_make_a_method_without_an_image_encoder(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RUN_METHODS, "alphabet", (by_name, ("sign",)))  # type: ignore[arg-type]
    for module in ("load", "requests"):
        monkeypatch.setattr(f"mmret.tables.{module}.WITHOUT_BACKBONE", frozenset({"alphabet"}))
    rows = {name: {"method": {"name": "alphabet", "sign": sign}} for name, sign in (("up", 1), ("down", -1))}
    found = cells(world, rows, backbone="nowhere")
    first = {row: Run.load(record.outcome.facts["run"]).ranking("q0")[0][0] for row, record in found.items()}
    assert first == {"up": "yellow.png", "down": "black.png"}
