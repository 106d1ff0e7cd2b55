import sys
from pathlib import Path
from types import ModuleType

import pytest

from mmret.errors import InputError
from mmret.tables import command
from tests.tables.toy_table import ToyFingerprints, ToyRunner, write_spec


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> ToyRunner:
    toy = ToyRunner()
    experiment = ModuleType("mmret.experiment")
    experiment.run_cell = toy  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mmret.experiment", experiment)
    monkeypatch.setattr(command, "InstalledFingerprints", lambda allow_missing: ToyFingerprints())
    return toy


def main(folder: Path, *options: str) -> int:
    write_spec(folder)
    return command.main([str(folder / "toy.yaml"), "--out", str(folder / "out"), *options])


def test_prints_the_table(tmp_path: Path, runner: ToyRunner, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path) == 0
    assert len(runner.asked) == 5
    assert "| LinCIR + PDV |" in capsys.readouterr().out
    assert main(tmp_path, "--format", "csv") == 0
    assert len(runner.asked) == 5
    assert capsys.readouterr().out.startswith("kind,row,label")


def test_options_choose_cells(tmp_path: Path, runner: ToyRunner) -> None:
    assert main(tmp_path, "--seeds", "1", "--rows", "text,lincir") == 0
    assert runner.asked == [("text", 0), ("lincir", 0)]
    assert main(tmp_path, "--seeds", "1", "--rows", "text", "--force") == 0
    assert runner.asked[2:] == [("text", 0)]


def test_a_server_s_score_is_imported(
    tmp_path: Path, runner: ToyRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    runner.hidden = ["shapes"]
    assert main(tmp_path, "--rows", "text") == 0
    assert "submission written, awaiting server" in capsys.readouterr().out
    (tmp_path / "server.json").write_text('{"success@1": 9.35, "recall@5": 20.5}')
    options = ["--import-scores", "text", str(tmp_path / "server.json"), "--scored-on", "2026-01-31"]
    assert main(tmp_path, *options) == 0
    assert "text: success@1 9.35 (2026-01-31)" in capsys.readouterr().out
    assert main(tmp_path, "--rows", "text") == 0
    assert "9.35 server, 2026-01-31" in capsys.readouterr().out
    assert runner.asked == [("text", 0)]


def test_a_mistake_needs_no_torch(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no table"):
        command.main([str(tmp_path / "none.yaml")])
    with pytest.raises(InputError, match="lists 2 seed"):
        main(tmp_path, "--seeds", "9")
