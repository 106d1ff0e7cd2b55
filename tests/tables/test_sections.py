import csv
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmret.errors import InputError
from mmret.tables import Table, TableSpec, run_table
from mmret.tables.measures import canonical, components, values
from tests.tables.toy_table import SEVERAL, ToyFingerprints, ToyRunner, write_spec


def several(folder: Path, **changes: Any) -> TableSpec:
    return write_spec(folder, **{**SEVERAL, **changes})


def run(folder: Path, runner: ToyRunner, **options: Any) -> Table:
    return run_table(several(folder), runner, folder / "out", fingerprints=ToyFingerprints(), **options)


NAMES = ["hidden", "coats", "hats", "clothes"]


def test_a_row_stands_on_every_benchmark_and_average(tmp_path: Path) -> None:
    spec = several(tmp_path)
    assert [row.name for row in spec.rows] == [f"{row}@{name}" for row in ("text", "edit") for name in NAMES]
    assert [row.split for row in spec.rows[:4]] == ["test", "val", "val", "val"]
    assert spec.row("text@clothes").average_of == ("text@coats", "text@hats")
    assert spec.sections == ("hidden", "clothes")
    assert spec.metrics == ("success@1", "success_subset@1", "mean(success@1, success_subset@1)")
    assert spec.row("edit@hats").metrics == ("success@1",)


def test_what_a_row_says_of_a_benchmark_stands_there_alone(tmp_path: Path) -> None:
    spec = several(tmp_path)
    assert [spec.row(f"text@{name}").published for name in NAMES] == [
        {"success@1": 9.35},
        {},
        {"success@1": 50.0},
        {"success@1": 30.0},
    ]
    assert spec.row("text@hidden").protocol == {}
    assert spec.row("edit@hats").protocol == spec.row("text@hats").protocol == {"caption_join": "and"}
    assert spec.row("edit@coats").method["captions"] == "coats-val"
    assert [row.unpublished for row in spec.rows] == [False] * 4 + [True] * 4


def test_a_derived_row_has_no_claims_unless_they_are_made(tmp_path: Path) -> None:
    assert several(tmp_path).claims == ()
    claims = [{"row": "edit@hats", "against": "text@hats"}]
    assert [claim.metric for claim in several(tmp_path, claims=claims).claims] == ["success@1"]


def changed(**row: Any) -> list[dict[str, Any]]:
    return [{"name": "a", "method": "text-only", **row}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": changed(benchmarks=["none"])}, "names 'none'; the table's benchmarks are hidden, clothes"),
        ({"rows": changed(benchmarks={"hidden": {"publishd": 1}})}, "unknown key 'publishd'"),
        (
            {"rows": changed(benchmarks={"clothes": {"parts": {"hat": [1]}}})},
            "unknown key 'hat'; known are coats",
        ),
        ({"rows": changed(benchmarks={"hidden": {"parts": {"hidden": [1]}}})}, "known are none"),
        (
            {"rows": changed(benchmarks={"clothes": {"published": [1, 2]}})},
            "2 published numbers for success@1",
        ),
        ({"rows": changed(published={"success@1": 1})}, "unknown key 'published'"),
        ({"benchmarks": {"hidden": {"metrics": "success@1", "splt": 1}}}, "unknown key 'splt'"),
        ({"benchmarks": []}, "a mapping of names"),
        ({"claims": [{"row": "text@clothes", "against": "edit@hats"}]}, "names no two rows"),
        (
            {"claims": [{"row": "text@hats", "against": "edit@hats", "metric": "success_subset@1"}]},
            "is not measured for both",
        ),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        several(tmp_path, **changes)


def test_an_average_is_the_mean_of_its_parts(tmp_path: Path) -> None:
    runner = ToyRunner({"text@coats": [1, 1, 1, 1], "text@hats": [1, 1, 0, 0]}, hidden=["hidden"])
    table = run(tmp_path, runner)
    average = table.rows[3].estimates["success@1"]
    assert average is not None
    assert average.value == 75
    # All of the spread comes from hats, whose own interval is twice as wide.
    hats = table.rows[2].estimates["success@1"]
    assert hats is not None
    assert 50 <= average.low < 75 < average.high <= 100
    assert average.high - average.low == pytest.approx((hats.high - hats.low) / 2)
    assert table.rows[3].comparisons["success@1"].delta == 45
    assert len(runner.asked) == 6


def test_a_note_on_a_whole_section_names_it_alone(tmp_path: Path) -> None:
    notes = run(tmp_path, ToyRunner(hidden=["hidden"])).notes
    assert "hidden: Protocol: preprocess center-crop, remove_reference no." in notes
    assert (
        "All rows but hidden: Protocol: preprocess center-crop, remove_reference no, caption_join and."
        in notes
    )
    assert "Text only, hats; edit@hats, hats: hats 1 val: 4 queries from 3 reference images." in notes


def test_an_average_without_a_part_is_no_number(tmp_path: Path) -> None:
    table = run(tmp_path, ToyRunner(failing={"text@hats": InputError("No hats.")}, hidden=["hidden"]))
    row = table.rows[3]
    assert (row.estimates["success@1"], row.reason) == (None, "the average needs hats too.")
    assert "hats: Text only: not run: No hats." in table.notes


def test_rows_are_chosen_by_either_name(tmp_path: Path) -> None:
    runner = ToyRunner(hidden=["hidden"])
    run(tmp_path, runner, only=["text@clothes", "edit"])
    assert [row for row, _ in runner.asked] == [
        "text@coats",
        "text@hats",
        "edit@hidden",
        "edit@coats",
        "edit@hats",
    ]
    with pytest.raises(InputError, match="no row 'none'"):
        run(tmp_path, runner, only=["none"])


def test_each_benchmark_has_a_grid(tmp_path: Path) -> None:
    table = run(tmp_path, ToyRunner(hidden=["hidden"]))
    assert [grid.caption for grid in table.grids] == ["A toy: hidden test", "A toy: clothes val"]
    lines = [[entry.text for entry in line] for line in table.grids[1].body]
    assert lines[:3] == [
        ["Text only", "coats", "success@1", "25.00", "–", "–", "–"],
        ["Text only", "hats", "success@1", "25.00", "50.00", "−25.00", "inside the interval"],
        ["Text only", "clothes", "success@1", "25.00", "30.00", "−5.00", "inside the interval"],
    ]
    found = {line["row"]: line["value"] for line in csv.DictReader(StringIO(table.to_csv()))}
    assert (found["text@clothes"], found["text@hidden"]) == ("25.0", "")


def test_a_mean_of_metrics_is_a_column() -> None:
    name = "mean( success@5,success_subset@1 )"
    assert canonical(name) == "mean(success@5, success_subset@1)"
    assert components(name) == ("success@5", "success_subset@1")
    arrays = {"success@5": np.array([1.0, 0.0]), "success_subset@1": np.array([0.0, 0.0])}
    assert values(arrays, name).tolist() == [0.5, 0]
    assert values(arrays, "success@5").tolist() == [1, 0]
    with pytest.raises(InputError, match="no metric 'accuracy'"):
        components("mean(success@1, accuracy)")


def test_a_cell_is_asked_for_the_metrics_of_a_mean(tmp_path: Path) -> None:
    runner = ToyRunner(hidden=["hidden"])
    run(tmp_path, runner, only=["text@hidden"])
    assert runner.requests[0].metrics == ("success@1", "success_subset@1")
