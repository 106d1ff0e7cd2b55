from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmret.tables import Table, run_table
from mmret.tables.cells import CellOutcome, CellRecord
from mmret.tables.spec import ClaimSpec, RowSpec
from mmret.tables.summary import Estimate, compare, decide_claims
from tests.tables.toy_table import ToyFingerprints, ToyRunner, write_spec

OURS = Estimate(value=20.04, low=18.0, high=22.0, seeds=1, queries=100, references=100)


@pytest.mark.parametrize(
    ("paper", "delta", "verdict"),
    [
        (20.04, 0.0, "matches"),
        (20.14, -0.1, "matches"),
        (19.93, 0.11, "inside the interval"),
        (22.0, -1.96, "inside the interval"),
        (22.01, -1.97, "below"),
        (17.99, 2.05, "above"),
    ],
)
def test_verdicts_beside_the_paper(paper: float, delta: float, verdict: str) -> None:
    row = RowSpec("a", "a", {"name": "text-only"}, "b", "c", "test", published={"recall@5": paper})
    found = compare(row, "recall@5", OURS, tolerance=0.1)
    assert (found.paper, found.delta, found.verdict) == (paper, delta, verdict)


def test_a_missing_number_is_never_a_number() -> None:
    row = RowSpec("a", "a", {"name": "text-only"}, "b", "c", "test", published={"recall@5": 20.0})
    unrun = compare(row, "recall@5", None, 0.1)
    assert (unrun.paper, unrun.delta, unrun.verdict) == (20.0, None, "not run")
    unpublished = compare(row, "recall@10", OURS, 0.1)
    assert (unpublished.paper, unpublished.delta, unpublished.verdict) == (None, None, "")


def make_table(folder: Path, values: dict[str, list[float]], only: list[str] | None = None) -> Table:
    claims = [{"row": "lincir", "against": "text"}, {"row": "lincir-pdv", "against": "lincir"}]
    spec = write_spec(folder, claims=claims)
    return run_table(spec, ToyRunner(values), folder / "out", only, fingerprints=ToyFingerprints())


def test_an_estimate_is_the_mean_over_seeds_and_queries(tmp_path: Path) -> None:
    table = make_table(tmp_path, {"lincir": [1.0, 0.5, 0.0, 0.5]})
    found = table.rows[1].estimates["success@1"]
    assert found is not None
    assert found.value == 50
    assert (found.seeds, found.queries, found.references) == (2, 4, 3)
    # Of the clusters (1, .5), (0), (.5) the least mean has all drawn as (0), the greatest as (1, .5).
    assert 0 <= found.low < 50 < found.high <= 75


def test_a_claim_is_the_paired_difference(tmp_path: Path) -> None:
    table = make_table(
        tmp_path, {"text": [0.5, 0.5, 0, 0], "lincir": [1, 1, 0.5, 0.5], "lincir-pdv": [1, 1, 1, 0]}
    )
    first, second = table.claims
    assert first.difference is not None
    assert second.difference is not None
    assert (first.difference.value, first.difference.low, first.difference.high) == (50, 50, 50)
    # All three clusters in favour: 2 of the 8 assignments of signs are as extreme; Holm doubles it.
    assert (first.p, first.p_holm, first.seeds_in_favour, first.verdict) == (0.25, 0.5, 2, "not shown")
    assert (second.difference.value, second.p, second.p_holm) == (0, 1, 1)


def test_a_stored_cell_stands_beside_a_fresh_one(tmp_path: Path) -> None:
    make_table(tmp_path, {}, only=["text"])
    assert make_table(tmp_path, {"lincir": [1, 1, 1, 1]}).claims[0].verdict == "not shown"


def test_other_queries_are_not_compared(tmp_path: Path) -> None:
    table = make_table(tmp_path, {})
    record = table.records["text", 0]
    other = replace(record, outcome=replace(record.outcome, query_ids=["q9", "q2", "q3", "q4"]))
    claim = Table(table.spec, {**table.records, ("text", 0): other}, {}).claims[0]
    assert (claim.verdict, claim.difference) == ("not comparable", None)


def seed_records(row: str, *values: float) -> list[CellRecord]:
    """Cells of a trained row, one a seed, each with its value for all of 12 queries."""
    names = [f"q{number}" for number in range(12)]
    return [
        CellRecord(
            *("id", "toy", row, seed, {"train": {}}),
            CellOutcome(names, names, {"recall@5": np.full(12, value)}, {}),
            *({}, "abc", 1.0, "2026-01-01"),
        )
        for seed, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("values", "favour", "verdict"),
    [((1.0, 0.8), 2, "holds"), ((0.0, 0.2), 0, "reversed"), ((1.0, 0.2), 1, "not shown")],
)
def test_a_claim_needs_the_test_and_the_interval(
    values: tuple[float, float], favour: int, verdict: str
) -> None:
    records = {"new": seed_records("new", *values), "old": seed_records("old", 0.4, 0.4)}
    claim = decide_claims([ClaimSpec("new", "old", "recall@5")], records)[0]
    # The mean over seeds has one sign for all 12 references: 2 of 4,096 assignments are as extreme.
    assert claim.p == claim.p_holm == 2 / 4096
    assert (claim.seeds_in_favour, claim.verdict) == (favour, verdict)


def test_a_claim_that_was_not_run_still_counts_in_the_family(tmp_path: Path) -> None:
    table = make_table(tmp_path, {"lincir": [1, 1, 1, 1]}, only=["text", "lincir"])
    first, second = table.claims
    assert (first.p, first.p_holm) == (0.25, 0.5)
    assert (second.p, second.p_holm, second.verdict, second.difference) == (None, None, "not run", None)


def test_a_margin_asks_for_no_more_than_not_being_worse() -> None:
    records = {"new": seed_records("new", 0.85), "old": seed_records("old", 0.9)}
    for margin, verdict in ((0.0, "reversed"), (4.0, "reversed"), (10.0, "holds")):
        (claim,) = decide_claims([ClaimSpec("new", "old", "recall@5", margin)], records)
        assert claim.verdict == verdict
        assert claim.difference is not None and claim.difference.value == pytest.approx(-5)
