"""Every configuration that ships: trainings are run for one batch, tables are read.

A configuration without an entry here fails, so that none rots.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from mmret import load_backbone
from mmret.cli import main
from mmret.composition.phi import MappingNetwork, save_phi
from mmret.tables.load import load_spec

CONFIGS = Path(__file__).parents[1] / "configs"
TABLES = sorted(CONFIGS.glob("tables/**/*.yaml"))
TRAININGS = sorted(set(CONFIGS.rglob("*.yaml")) - set(TABLES))


def nothing() -> None:
    """Most configurations need nothing beside the package."""


def a_folder_and_phi() -> None:
    """In the working directory: a benchmark of two images and one query, and an untrained φ in its place."""
    (Path("toy") / "images").mkdir(parents=True)
    for colour in ("red", "blue"):
        Image.new("RGB", (64, 64), colour).save(f"toy/images/{colour}.png")
    query = {
        "id": "q",
        "reference": "red.png",
        "text": "make it blue",
        "targets": ["blue.png"],
        "split": "test",
    }
    Path("toy/queries.jsonl").write_text(json.dumps(query) + "\n", encoding="utf-8")
    backbone = load_backbone("miniature-clip")
    phi = MappingNetwork(backbone.spec.width, 8, backbone.token_width)
    Path("runs/miniature/lincir").mkdir(parents=True)
    save_phi(phi, "runs/miniature/lincir/phi.safetensors")


class Trial(NamedTuple):
    """How a configuration is run in miniature: the subcommand, options that make it tiny, what it needs."""

    command: str
    options: list[str]
    prepare: Callable[[], None] = nothing


TRIALS = {
    "miniature/clip.yaml": Trial(
        "fit", ["--data.pairs=24", "--data.held_out=8", "--data.batch_size=8", "--data.num_workers=0"]
    ),
    "miniature/lincir.yaml": Trial("fit", ["--data.captions=24", "--data.held_out=8", "--data.batch_size=8"]),
    "miniature/zero_shot.yaml": Trial("test", ["--data.benchmark=folder:toy"], a_folder_and_phi),
}


def name(path: Path) -> str:
    return path.relative_to(CONFIGS).as_posix()


def test_every_config_has_a_trial() -> None:
    assert [name(path) for path in TRAININGS] == sorted(TRIALS)


@pytest.mark.parametrize("path", TRAININGS, ids=name)
def test_a_config_runs_for_one_batch(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    trial = TRIALS[name(path)]
    trial.prepare()
    words = [trial.command, f"--config={path}", *trial.options]
    assert main([*words, "--trainer.fast_dev_run=true", "--trainer.accelerator=cpu"]) == 0
    assert "Running in `fast_dev_run` mode" in capfd.readouterr().err


@pytest.mark.parametrize("path", TABLES, ids=name)
def test_a_table_is_read(path: Path) -> None:
    spec = load_spec(path)
    assert spec.name == path.stem
    assert spec.rows
