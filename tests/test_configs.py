"""Every configuration that ships: trainings are run for one batch, tables are read.

A configuration without an entry here fails, so that none rots.
"""

from pathlib import Path
from typing import NamedTuple

import pytest

from mmret.cli import main
from mmret.tables.load import load_spec

CONFIGS = Path(__file__).parents[1] / "configs"
TABLES = sorted(CONFIGS.glob("tables/**/*.yaml"))
TRAININGS = sorted(set(CONFIGS.rglob("*.yaml")) - set(TABLES))


class Trial(NamedTuple):
    """How a configuration is run in miniature: the subcommand, and options that make it tiny."""

    command: str
    options: list[str]


TRIALS = {
    "miniature/clip.yaml": Trial(
        "fit", ["--data.pairs=24", "--data.held_out=8", "--data.batch_size=8", "--data.num_workers=0"]
    ),
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
    words = [trial.command, f"--config={path}", *trial.options]
    assert main([*words, "--trainer.fast_dev_run=true", "--trainer.accelerator=cpu"]) == 0
    assert "Running in `fast_dev_run` mode" in capfd.readouterr().err


@pytest.mark.parametrize("path", TABLES, ids=name)
def test_a_table_is_read(path: Path) -> None:
    spec = load_spec(path)
    assert spec.name == path.stem
    assert spec.rows
