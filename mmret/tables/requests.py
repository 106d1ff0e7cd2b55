"""From a row and a seed to a cell's request: every name resolved to what it stands for now."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, Protocol

import yaml

from mmret.data import records
from mmret.errors import InputError
from mmret.tables.cells import CellRequest, file_digest
from mmret.tables.measures import components
from mmret.tables.spec import WITHOUT_BACKBONE, RowSpec, Settings, TableSpec
from mmret.text_search.weights import cached_commit, weights_digest

_FILES: Final = {".pt", ".pth", ".safetensors", ".json", ".jsonl"}
"""Suffixes of weights and captions: a text of a method that ends in one is a file, and must be there."""


class Fingerprints(Protocol):
    """Says what the names of backbones and benchmarks stand for; InputError where something is missing."""

    allow_missing: bool
    """Whether benchmarks stand for what is there of their images."""

    def backbone(self, name: str, preprocess: str) -> Mapping[str, str]:
        """What decides the backbone's vectors."""
        ...

    def benchmark(self, name: str, split: str, protocol: Settings) -> Settings:
        """Name, version, split and protocol (a mapping of all its fields) of the benchmark's data."""
        ...


class InstalledFingerprints:
    """The fingerprints of the backbones and benchmarks of this installation; each is looked up once.

    `allow_missing` goes on without images that are not there, see `mmret.data.load_benchmark`.
    """

    def __init__(self, allow_missing: bool = False) -> None:
        self.allow_missing = allow_missing
        self._backbone = cache(_resolve_backbone)
        self._benchmark = cache(partial(_load_benchmark, allow_missing))

    def backbone(self, name: str, preprocess: str) -> Mapping[str, str]:
        """The fingerprint of the backbone's spec in fp32; no weights are read."""
        return self._backbone(name, preprocess)

    def benchmark(self, name: str, split: str, protocol: Settings) -> Settings:
        """Name, version and split as the data has them, and its protocol with the row's changes."""
        benchmark = self._benchmark(name, split, tuple(sorted(protocol.items())))
        named = {"name": benchmark.name, "version": benchmark.version, "split": benchmark.split}
        return {**named, "protocol": asdict(benchmark.protocol)}


def _resolve_backbone(name: str, preprocess: str) -> Mapping[str, str]:
    from mmret.backbones import resolve  # torch and open_clip: not for `mmret table --help`

    return resolve(name, preprocess).fingerprint("fp32")


def _load_benchmark(allow_missing: bool, name: str, split: str, protocol: tuple[tuple[str, Any], ...]) -> Any:
    from mmret.data import load_benchmark

    return load_benchmark(name, split, protocol=dict(protocol), allow_missing=allow_missing)


def request_cell(
    spec: TableSpec, row: RowSpec, seed: int, fingerprints: Fingerprints, folder: Path
) -> CellRequest:
    """The request of a row's cell for one seed; InputError where its data, files or configs are missing."""
    benchmark = fingerprints.benchmark(row.benchmark, row.split, row.protocol)
    metrics = tuple(dict.fromkeys(part for name in row.metrics for part in components(name)))
    method, files = _absolute(row.method, spec)
    method, weights = _text_model(method, spec)
    train, configs = _absolute_train(row.train, spec)
    text_encoder, tuned_by, tuned_files = _absolute_text_encoder(row.text_encoder, spec)
    files |= tuned_files
    parts = _parts(spec, row, seed, fingerprints, folder)
    description = {
        "backbone": _backbone(row, fingerprints, benchmark["protocol"]),
        "benchmark": benchmark,
        "metrics": metrics,
        "method": row.method,
        # By the names they have in the table: where they lie on this disk does not change a number.
        "files": {path: file_digest(file) for path, file in files.items()},
        **({} if weights is None else {"weights": weights}),
        "pdv": row.pdv,
        **({} if row.scoring is None else {"scoring": row.scoring}),
        "train": None if row.train is None else {**row.train, "config": configs},
        **({} if tuned_by is None else {"text_encoder": tuned_by}),
        **({"parts": [part.identity for part in parts]} if parts else {}),
        "seed": seed,
    }
    return CellRequest(
        table=spec.name,
        row=row.name,
        seed=seed,
        backbone=row.backbone,
        benchmark=row.benchmark,
        split=row.split,
        protocol=benchmark["protocol"],
        metrics=metrics,
        method=method,
        pdv=row.pdv,
        scoring=row.scoring,
        train=train,
        text_encoder=text_encoder,
        parts=parts,
        description=description,
        folder=folder,
        allow_missing=fingerprints.allow_missing,
    )


def _backbone(row: RowSpec, fingerprints: Fingerprints, protocol: Settings) -> Mapping[str, str]:
    if row.method["name"] in WITHOUT_BACKBONE:
        return {}
    return fingerprints.backbone(row.backbone, protocol["preprocess"])


def _parts(
    spec: TableSpec, row: RowSpec, seed: int, fingerprints: Fingerprints, folder: Path
) -> tuple[CellRequest, ...]:
    """The cells of the rows that this one's method is of: with the same seed, where they have one."""
    rows = [spec.row(name) for name in row.parts]
    seeds = [seed if seed in spec.seeds_of(part) else spec.seeds_of(part)[0] for part in rows]
    return tuple(
        request_cell(spec, part, own, fingerprints, folder) for part, own in zip(rows, seeds, strict=True)
    )


def _absolute(value: Any, spec: TableSpec) -> tuple[Any, dict[str, Path]]:
    """The settings with every file they name made absolute, and those files by the name they had."""
    if isinstance(value, Mapping):
        pairs = {key: _absolute(item, spec) for key, item in value.items()}
        files = {name: file for _, found in pairs.values() for name, file in found.items()}
        return {key: item for key, (item, _) in pairs.items()}, files
    if isinstance(value, list):
        numbered, files = _absolute(dict(enumerate(value)), spec)
        return list(numbered.values()), files
    # A file is told from other words by its suffix, so that a file named "sum" cannot stand in for a method.
    suffix = Path(value).suffix if isinstance(value, str) else ""
    file = spec.find(value) if suffix else None
    if file is None and suffix in _FILES:
        raise InputError(f"There is no file {value}, neither here nor beside table {spec.name}.")
    return (value, {}) if file is None else (str(file), {value: file})


def _text_model(method: Settings, spec: TableSpec) -> tuple[Settings, str | None]:
    """The method with its text model's folder made absolute, or at its cached commit; and what marks the weights."""
    name = method.get("model")
    if method["name"] not in WITHOUT_BACKBONE or not isinstance(name, str) or not name:
        return method, None
    folder = spec.find_folder(name)
    if folder is not None:
        return {**method, "model": str(folder)}, weights_digest(folder)
    commit = None if "revision" in method else cached_commit(name)
    return (method, None) if commit is None else ({**method, "revision": commit}, commit)


def _absolute_train(train: Settings | None, spec: TableSpec) -> tuple[Settings | None, list[Any]]:
    """The training with its configs as absolute paths (a tuple), and the contents of those configs."""
    if train is None:
        return None, []
    paths = [_config(name, spec) for name in records.strings(train["config"], "config", spec.name)]
    # Parsed, so that a changed comment does not cost a training.
    contents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in paths]
    return {**train, "config": tuple(map(str, paths))}, contents


def _absolute_text_encoder(
    value: Settings | None, spec: TableSpec
) -> tuple[Settings | None, Settings | None, dict[str, Path]]:
    """The text encoder with absolute paths; the same with the contents of its configs; and the file it names."""
    if value is None:
        return None, None, {}
    given = {key: value[key] for key in ("file", "reference") if key in value}
    absolute, files = _absolute(given, spec)
    if "file" in value and not files:
        raise InputError(
            f"There is no text encoder {value['file']}, neither here nor beside table {spec.name}."
        )
    described: dict[str, Any] = dict(given)
    for key in ("train", "phi"):
        if key in value:
            absolute[key], configs = _absolute_train(value[key], spec)
            described[key] = {**value[key], "config": configs}
    return absolute, described, files


def _config(name: str, spec: TableSpec) -> Path:
    path = spec.find(name)
    if path is None:
        raise InputError(f"There is no training config {name}, neither here nor beside table {spec.name}.")
    return path
