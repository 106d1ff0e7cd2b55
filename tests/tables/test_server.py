import json
from pathlib import Path
from typing import Any

import pytest

from mmret.errors import InputError
from mmret.tables import Table, run_table
from mmret.tables.requests import request_cell
from mmret.tables.run import import_row_scores
from mmret.tables.server import scores_path
from tests.tables.toy_table import SEVERAL, ToyFingerprints, ToyRunner, write_spec

ROW = "text@hidden"
MEAN = "mean(success@1, success_subset@1)"


def run(folder: Path, runner: ToyRunner | None = None, **options: Any) -> Table:
    runner = runner or ToyRunner(hidden=["hidden"])
    return run_table(
        write_spec(folder, **SEVERAL), runner, folder / "out", fingerprints=ToyFingerprints(), **options
    )


def give(folder: Path, content: object, row: str = ROW, **options: Any) -> str:
    """Import a server's answer; the sentence that says so."""
    path = folder / "server.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    spec = write_spec(folder, **SEVERAL)
    return import_row_scores(spec, row, path, folder / "out", fingerprints=ToyFingerprints(), **options)


def ours(table: Table) -> list[tuple[str, str]]:
    """Our entries of the row on the hidden benchmark, text and detail."""
    return [(line[2].text, line[2].detail) for line in table.grids[0].body[:3]]


AWAITING = ("submission written, awaiting server", "")


def test_a_submission_is_neither_a_number_nor_not_run(tmp_path: Path) -> None:
    table = run(tmp_path)
    assert ours(table) == [AWAITING] * 3
    assert {item.verdict for item in table.rows[0].comparisons.values()} == {"awaiting server"}
    assert table.rows[0].estimates == dict.fromkeys(table.rows[0].spec.metrics)
    assert any("ranks.json await the server of hidden" in note for note in table.notes)


def test_it_is_not_written_twice_unless_it_is_gone(tmp_path: Path) -> None:
    run(tmp_path)
    again = ToyRunner(hidden=["hidden"])
    run(tmp_path, again)
    assert again.asked == []
    next((tmp_path / "out" / "toy").glob("text@hidden*.submission/ranks.json")).write_text("{}")
    run(tmp_path, again)
    assert again.asked == [(ROW, 0)]


def test_the_server_s_scores_stand_with_their_day(tmp_path: Path) -> None:
    run(tmp_path)
    said = give(tmp_path, {"scores": {"Recall@1": 9.4}, "date": "2026-01-31"})
    assert "success@1 9.40 (2026-01-31)" in said
    assert ours(run(tmp_path)) == [("9.40", "server, 2026-01-31"), AWAITING, AWAITING]
    give(tmp_path, {"Recall_subset@1": 20.0}, scored_on="2026-02-01")
    table = run(tmp_path)
    assert ours(table)[1:] == [("20.00", "server, 2026-02-01"), ("14.70", "server, 2026-02-01")]
    found = table.rows[0].comparisons["success@1"]
    assert (found.paper, found.delta, found.verdict) == (9.35, 0.05, "matches")
    assert "server,paper" in table.to_csv()
    assert any("evaluation server" in note for note in table.notes)


def test_scores_of_other_files_do_not_count(tmp_path: Path) -> None:
    run(tmp_path)
    give(tmp_path, {"Recall@1": 9.4})
    scores = next((tmp_path / "out" / "toy").glob("*.server.json"))
    stored = json.loads(scores.read_text())
    scores.write_text(json.dumps({**stored, "submission": {"ranks.json": "other"}}))
    assert ours(run(tmp_path)) == [AWAITING] * 3


def test_a_claim_on_a_submission_is_not_run(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, **{**SEVERAL, "claims": [{"row": "edit@hidden", "against": ROW}]})
    runner = ToyRunner(hidden=["hidden"])
    table = run_table(spec, runner, tmp_path / "out", fingerprints=ToyFingerprints())
    assert [claim.verdict for claim in table.claims] == ["not run"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"mAP@5": 9.35}, r"scores 'map@5 \(÷ min\)'; row text@hidden has success@1"),
        ({"success@1": "9"}, "is '9', where a number from 0 to 100"),
        ({"success@1": 101}, "a number from 0 to 100"),
        ({"success@1": 0.094}, "points or fractions"),
        ({"unit": "percent", "scores": {"success@1": 9}}, "none of points, fraction"),
        ({"date": "yesterday", "scores": {"success@1": 9}}, "no day such as"),
        ({"dat": "2026-01-01", "scores": {"success@1": 9}}, "known keys are date"),
        ({}, "no scores"),
        ([9.35], "holds a list"),
    ],
)
def test_a_bad_answer_is_named_and_nothing_stored(tmp_path: Path, content: object, message: str) -> None:
    run(tmp_path)
    with pytest.raises(InputError, match=message):
        give(tmp_path, content)
    assert not list((tmp_path / "out" / "toy").glob("*.server.json"))


def test_fractions_are_taken_when_they_are_called_so(tmp_path: Path) -> None:
    run(tmp_path)
    give(tmp_path, {"unit": "fraction", "scores": {"success@1": 0.0935}})
    assert ours(run(tmp_path))[0][0] == "9.35"


def test_only_a_submission_takes_scores(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has not been run"):
        give(tmp_path, {"success@1": 9.35})
    run(tmp_path)
    with pytest.raises(InputError, match="own numbers"):
        give(tmp_path, {"success@1": 9.35}, row="text@hats")
    with pytest.raises(InputError, match="no row 'none'"):
        give(tmp_path, {"success@1": 9.35}, row="none")


def test_damaged_scores_are_said_and_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path)
    give(tmp_path, {"success@1": 9.35})
    spec = write_spec(tmp_path, **SEVERAL)
    request = request_cell(spec, spec.row(ROW), 0, ToyFingerprints(), tmp_path / "out" / "toy")
    scores_path(request).write_text("{}")
    assert ours(run(tmp_path)) == [AWAITING] * 3
    assert "import them again" in capsys.readouterr().err
