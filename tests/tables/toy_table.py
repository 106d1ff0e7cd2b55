"""A table small enough to check by hand: a YAML text, fingerprints, and a runner that counts its calls."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mmret.errors import InputError
from mmret.tables import TableSpec, load_spec
from mmret.tables.cells import CellOutcome, CellRequest, file_digest

QUERIES = ("q1", "q2", "q3", "q4")

SWEEP = {
    "sweep/beta": np.array([0.0, 0.0, 0.5, 0.5]),
    "sweep/gamma": np.array([0.0, 1.0, 0.0, 1.0]),
    "sweep/values": np.array([0.1, 0.2, 0.3, 0.4]),
}

TOY: dict[str, Any] = {
    "name": "toy",
    "title": "A toy",
    "backbone": "tiny",
    "benchmark": "shapes",
    "split": "test",
    "metrics": ["success@1", "recall@5"],
    "seeds": 2,
    "rows": [
        {"name": "text", "label": "Text only", "method": "text-only"},
        {
            "name": "lincir",
            "label": "LinCIR",
            "method": {"name": "pseudo-word", "template": "a photo of {word} that {text}"},
            "train": {"config": "phi.yaml", "trainer.max_steps": 3},
        },
        {"name": "lincir-pdv", "label": "LinCIR + PDV", "base": "lincir", "pdv": {"select": "val"}},
    ],
}


def write_spec(folder: Path, **changes: Any) -> TableSpec:
    """The toy table with some keys changed, written to a folder with its training config, and read."""
    (folder / "phi.yaml").write_text("model:\n  width: 8\n", encoding="utf-8")
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump({**TOY, **changes}, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return load_spec(path)


class ToyFingerprints:
    """Names stand for themselves."""

    allow_missing = False

    def __init__(self, version: str = "1", missing: str = "") -> None:
        self.version = version
        self.missing = missing

    def backbone(self, name: str, preprocess: str) -> Mapping[str, str]:
        return {"architecture": name, "preprocess": preprocess}

    def benchmark(self, name: str, split: str, protocol: Mapping[str, Any]) -> Mapping[str, Any]:
        if name == self.missing:
            raise InputError(f"Benchmark {name} is not on this disk.")
        applied = {"preprocess": "center-crop", "remove_reference": False, **protocol}
        return {"name": name, "version": self.version, "split": split, "protocol": applied}


SEVERAL: dict[str, Any] = {
    "benchmarks": {
        "hidden": {
            "split": "test",
            "metrics": ["success@1", "success_subset@1", "mean(success@1, success_subset@1)"],
        },
        "clothes": {"average_of": ["coats", "hats"], "split": "val", "metrics": ["success@1"]},
    },
    "rows": [
        {
            "name": "text",
            "label": "Text only",
            "method": "text-only",
            "benchmarks": {
                "hidden": {"published": [9.35, None, None]},
                "clothes": {"published": [30], "parts": {"hats": [50]}, "protocol": {"caption_join": "and"}},
            },
        },
        {
            "name": "edit",
            "base": "text",
            "method": {"name": "caption-edit", "captions": "{benchmark}-{split}"},
            "unpublished": True,
        },
    ],
}
"""The toy table over a benchmark with a server and the average of two."""


def _submission(request: CellRequest) -> CellOutcome:
    request.submission_folder.mkdir(parents=True, exist_ok=True)
    path = request.submission_folder / "ranks.json"
    path.write_text(f'{{"{request.row}": []}}', encoding="utf-8")
    files = {path.name: file_digest(path)}
    return CellOutcome(QUERIES, ("r1", "r1", "r2", "r3"), {}, request.protocol, submission=files)


@dataclass
class ToyRunner:
    """Gives each row its `values` [4] in every metric, and remembers what it was asked for."""

    values: Mapping[str, list[float]] = field(default_factory=dict)
    failing: Mapping[str, Exception] = field(default_factory=dict)
    hidden: Collection[str] = ()
    """Benchmarks whose ground truth is not public: their cells leave a file for the server."""
    requests: list[CellRequest] = field(default_factory=list)

    def __call__(self, request: CellRequest) -> CellOutcome:
        self.requests.append(request)
        if request.row in self.failing:
            raise self.failing[request.row]
        if request.benchmark in self.hidden:
            return _submission(request)
        values = np.array(self.values.get(request.row, [1.0, 0.0, 0.0, 0.0]))
        return CellOutcome(
            query_ids=QUERIES,
            references=("r1", "r1", "r2", "r3"),
            per_query=dict.fromkeys(request.metrics, values),
            protocol=request.protocol,
            pdv={"beta": 0.5, "alpha_image": 1.25, "alpha_text": 0.75} if request.pdv else None,
            facts={"metric": "success@1", "selected_on": ["shapes", "val"]} if request.pdv else {},
            arrays=SWEEP if request.pdv else {},
        )

    @property
    def asked(self) -> list[tuple[str, int]]:
        """(row, seed) of every request, in their order."""
        return [(request.row, request.seed) for request in self.requests]
