import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmret.errors import InputError
from mmret.tables.cells import CellOutcome, CellRecord, digest
from mmret.tables.requests import request_cell
from tests.tables.toy_table import ToyFingerprints, ToyRunner, write_spec


def record_of(outcome: CellOutcome) -> CellRecord:
    return CellRecord("id", "toy", "text", 0, {"seed": 0}, outcome, {"numpy": "2"}, "abc", 1.5, "2026-01-01")


@pytest.fixture
def outcome(tmp_path: Path) -> CellOutcome:
    spec = write_spec(tmp_path)
    return ToyRunner()(request_cell(spec, spec.row("lincir-pdv"), 0, ToyFingerprints(), tmp_path))


def test_a_record_comes_back_as_it_was_stored(tmp_path: Path, outcome: CellOutcome) -> None:
    path = tmp_path / "deep" / "cell.json"
    outcome = replace(outcome, config={"backbone": {"name": "tiny"}})
    record_of(replace(outcome, facts={"ties": np.int64(3)})).save(path)
    loaded = CellRecord.load(path)
    assert replace(loaded, outcome=outcome) == record_of(outcome)
    assert loaded.outcome.query_ids == ["q1", "q2", "q3", "q4"]
    assert loaded.outcome.references == ["r1", "r1", "r2", "r3"]
    assert loaded.outcome.per_query["recall@5"].tolist() == [1, 0, 0, 0]
    assert loaded.outcome.arrays["sweep/beta"].tolist() == [0, 0, 0.5, 0.5]
    assert loaded.outcome.pdv == {"beta": 0.5, "alpha_image": 1.25, "alpha_text": 0.75}
    assert loaded.outcome.facts == {"ties": 3}
    assert loaded.outcome.config == {"backbone": {"name": "tiny"}}
    assert loaded.outcome.protocol == {"preprocess": "center-crop", "remove_reference": False}
    assert json.loads(path.read_text())["means"] == {"success@1": 0.25, "recall@5": 0.25}
    assert sorted(item.name for item in path.parent.iterdir()) == ["cell.json", "cell.npz"]


def test_arrays_of_another_record_are_refused(tmp_path: Path, outcome: CellOutcome) -> None:
    record_of(outcome).save(tmp_path / "one.json")
    changed = {name: 1 - values for name, values in outcome.per_query.items()}
    record_of(replace(outcome, per_query=changed)).save(tmp_path / "two.json")
    (tmp_path / "one.npz").write_bytes((tmp_path / "two.npz").read_bytes())
    with pytest.raises(InputError, match=r"one\.npz is missing or not"):
        CellRecord.load(tmp_path / "one.json")
    (tmp_path / "one.npz").unlink()
    with pytest.raises(InputError, match=r"one\.npz is missing or not"):
        CellRecord.load(tmp_path / "one.json")


def test_a_record_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text('{"format": 0}')
    with pytest.raises(InputError, match="format 1"):
        CellRecord.load(tmp_path / "old.json")


@pytest.mark.parametrize("values", [[0.5, 0.5], [0, 0, 0, 1.5], [0, 0, 0, float("nan")]])
def test_values_that_no_metric_has_are_refused(outcome: CellOutcome, values: list[float]) -> None:
    with pytest.raises(ValueError, match="values from 0 to 1"):
        replace(outcome, per_query={"recall@5": np.array(values)})


def test_a_reference_is_needed_for_each_query(outcome: CellOutcome) -> None:
    with pytest.raises(ValueError, match="4 queries and 1 references"):
        replace(outcome, references=["r1"])


def test_a_digest_depends_on_content_alone() -> None:
    assert digest({"a": 1, "b": [np.float64(0.5)]}) == digest({"b": (0.5,), "a": 1})
    assert digest({"a": 1}) != digest({"a": "1"})
