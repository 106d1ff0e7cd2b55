from pathlib import Path

import pytest

from mmret.errors import InputError
from mmret.tables import Table, TableSpec, run_table
from tests.tables.toy_table import ToyFingerprints, ToyRunner, write_spec

CELLS = [("text", 0), ("lincir", 0), ("lincir", 1), ("lincir-pdv", 0), ("lincir-pdv", 1)]


@pytest.fixture
def spec(tmp_path: Path) -> TableSpec:
    return write_spec(tmp_path)


def run(spec: TableSpec, runner: ToyRunner, **options: object) -> Table:
    options = {"fingerprints": ToyFingerprints(), **options}
    return run_table(spec, runner, spec.folder / "out", **options)  # type: ignore[arg-type]


def test_only_missing_cells_are_run(spec: TableSpec) -> None:
    first, second = ToyRunner(), ToyRunner()
    table = run(spec, first)
    assert first.asked == CELLS
    assert repr(run(spec, second)) == repr(table) == "Table(toy: 5 of 5 cells, 0 of 1 claims hold)"
    assert second.asked == []


def test_a_killed_run_keeps_what_was_done(spec: TableSpec) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(spec, ToyRunner(failing={"lincir-pdv": KeyboardInterrupt()}))  # type: ignore[dict-item]
    resumed = ToyRunner()
    assert len(run(spec, resumed).records) == 5
    assert resumed.asked == CELLS[3:]


def test_a_changed_benchmark_is_run_again(spec: TableSpec) -> None:
    run(spec, ToyRunner())
    again = ToyRunner()
    run(spec, again, fingerprints=ToyFingerprints(version="2"))
    assert again.asked == CELLS


def test_missing_data_leaves_a_reason_and_the_rest_goes_on(spec: TableSpec) -> None:
    table = run(spec, ToyRunner(failing={"lincir": InputError("The weights are not here.")}))
    assert set(table.records) == {("text", 0), ("lincir-pdv", 0), ("lincir-pdv", 1)}
    assert table.rows[1].reason == "The weights are not here."
    assert table.rows[1].estimates == {"success@1": None, "recall@5": None}
    assert table.claims[0].verdict == "not run"


def test_data_missing_before_the_run_leaves_a_reason_too(spec: TableSpec) -> None:
    runner = ToyRunner()
    table = run(spec, runner, fingerprints=ToyFingerprints(missing="shapes"))
    assert runner.asked == []
    assert {row.reason for row in table.rows} == {"Benchmark shapes is not on this disk."}


def test_a_bug_is_loud(spec: TableSpec) -> None:
    with pytest.raises(ZeroDivisionError):
        run(spec, ToyRunner(failing={"text": ZeroDivisionError()}))


def test_rows_left_out_show_what_is_stored(spec: TableSpec) -> None:
    run(spec, ToyRunner(), only=["text"])
    runner = ToyRunner()
    table = run(spec, runner, only=["lincir"])
    assert runner.asked == [("lincir", 0), ("lincir", 1)]
    assert len(table.records) == 3
    assert table.rows[2].reason == "left out of this run"
    with pytest.raises(InputError, match="no row 'none'"):
        run(spec, ToyRunner(), only=["none"])


def test_force_runs_the_chosen_rows_again(spec: TableSpec) -> None:
    run(spec, ToyRunner())
    runner = ToyRunner(values={"text": [1, 1, 1, 1]})
    table = run(spec, runner, only=["text"], force=True)
    assert runner.asked == [("text", 0)]
    assert table.records["text", 0].means["recall@5"] == 1
    assert run(spec, ToyRunner()).records["text", 0].means["recall@5"] == 1


def test_a_damaged_record_is_run_again(spec: TableSpec, capsys: pytest.CaptureFixture[str]) -> None:
    run(spec, ToyRunner())
    next((spec.folder / "out" / "toy").glob("text.*.npz")).write_bytes(b"")
    again = ToyRunner()
    run(spec, again)
    assert again.asked == [("text", 0)]
    assert "is missing or not" in capsys.readouterr().err


def test_a_record_says_where_it_came_from(spec: TableSpec) -> None:
    record = run(spec, ToyRunner()).records["lincir-pdv", 1]
    assert (record.table, record.row, record.seed) == ("toy", "lincir-pdv", 1)
    assert {"python", "numpy", "torch"} <= set(record.versions)
    assert record.revision
    assert record.wall_seconds >= 0
    assert record.description["train"]["config"] == [{"model": {"width": 8}}]
    assert record.outcome.protocol == {"preprocess": "center-crop", "remove_reference": False}


def test_a_runner_must_give_every_metric(spec: TableSpec) -> None:
    runner = ToyRunner()

    def forgetful(request: object) -> object:
        outcome = runner(request)  # type: ignore[arg-type]
        del outcome.per_query["recall@5"]  # type: ignore[attr-defined]
        return outcome

    with pytest.raises(ValueError, match="no recall@5 for text"):
        run(spec, forgetful)  # type: ignore[arg-type]
