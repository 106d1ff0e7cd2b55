import csv
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from mmret.errors import InputError
from mmret.tables import Table, run_table
from mmret.tables.grids import p_value, signed
from tests.tables.toy_table import TOY, ToyFingerprints, ToyRunner, write_spec

HALF = [1.0, 1.0, 0.0, 0.0]


def make_table(folder: Path, failing: dict[str, Exception] | None = None, **changes: Any) -> Table:
    spec = write_spec(folder, **changes)
    runner = ToyRunner({"lincir-pdv": HALF}, failing or {})
    return run_table(spec, runner, folder / "out", fingerprints=ToyFingerprints())


def entries(table: Table, grid: int = 0) -> list[list[str]]:
    return [[entry.text for entry in line] for line in table.grids[grid].body]


def with_paper(**row: Any) -> list[dict[str, Any]]:
    return [{**TOY["rows"][0], **row}]


def test_rows_by_metrics_with_seeds_and_the_best_marked(tmp_path: Path) -> None:
    table = make_table(tmp_path)
    assert [column.title for column in table.grids[0].columns] == ["Method", "Seeds", "success@1", "recall@5"]
    assert entries(table) == [
        ["Text only", "–", "25.00", "25.00"],
        ["LinCIR", "2", "25.00", "25.00"],
        ["LinCIR + PDV", "2", "50.00", "50.00"],
    ]
    assert [line[2].tone for line in table.grids[0].body] == ["", "", "best"]


def test_a_row_without_cells_shows_no_number_and_its_reason(tmp_path: Path) -> None:
    table = make_table(tmp_path, failing={"lincir-pdv": InputError("No weights for φ here.")})
    assert entries(table)[2] == ["LinCIR + PDV", "0 of 2", "not run", "not run"]
    assert "LinCIR + PDV: not run: No weights for φ here." in table.notes
    assert entries(table, 1) == [["LinCIR + PDV over LinCIR", "success@1", "–", "–", "–", "–", "not run"]]


def test_claims_stand_in_a_grid_of_their_own(tmp_path: Path) -> None:
    claim = entries(make_table(tmp_path), 1)[0]
    # Only one of the three references differs, so every assignment of signs is as extreme.
    assert claim == [
        "LinCIR + PDV over LinCIR",
        "success@1",
        "+25.00",
        "2 of 2",
        "1.0000",
        "1.0000",
        "not shown",
    ]


def test_beside_the_paper(tmp_path: Path) -> None:
    table = make_table(tmp_path, rows=with_paper(published={"success@1": 25.05}, mark="S"))
    titles = ["Method", "Metric", "Ours", "Paper", "Δ", "Verdict"]
    assert [column.title for column in table.grids[0].columns] == titles
    assert entries(table) == [
        ["Text only", "success@1", "25.00", "25.05", "−0.05", "matches"],
        ["Text only", "recall@5", "25.00", "–", "–", "–"],
    ]
    assert any("S: quoted from a later paper's table" in note for note in table.notes)


def test_the_paper_s_number_never_stands_in_for_ours(tmp_path: Path) -> None:
    failing = {"text": InputError("No data.")}
    table = make_table(tmp_path, failing, rows=with_paper(published={"success@1": 31.0}))
    assert entries(table)[0] == ["Text only", "success@1", "not run", "31.00", "–", "not run"]
    line = next(csv.DictReader(StringIO(table.to_csv())))
    assert (line["value"], line["paper"], line["delta"], line["verdict"]) == ("", "31.0", "", "not run")


def test_an_unconfirmed_row_says_so(tmp_path: Path) -> None:
    table = make_table(tmp_path, rows=with_paper(unpublished=True))
    assert [line[3] for line in entries(table)] == ["unpublished here", "unpublished here"]


def test_backbones_are_a_column_where_they_differ(tmp_path: Path) -> None:
    rows = [*TOY["rows"], {"name": "large", "method": "text-only", "backbone": "clip-l"}]
    table = make_table(tmp_path, rows=rows)
    assert [line[:2] for line in entries(table)][2:] == [["LinCIR + PDV", "tiny"], ["large", "clip-l"]]


def test_csv_is_tidy_and_in_full_precision(tmp_path: Path) -> None:
    lines = list(csv.DictReader(StringIO(make_table(tmp_path).to_csv())))
    assert [(line["kind"], line["row"], line["metric"]) for line in lines[-3:]] == [
        ("cell", "lincir-pdv", "success@1"),
        ("cell", "lincir-pdv", "recall@5"),
        ("claim", "lincir-pdv", "success@1"),
    ]
    assert (lines[4]["value"], lines[4]["seeds"], lines[4]["queries"]) == ("50.0", "2", "4")
    assert (lines[6]["against"], lines[6]["value"], lines[6]["p_holm"]) == ("lincir", "25.0", "1.0")


def test_notes_say_how_the_numbers_were_made(tmp_path: Path) -> None:
    notes = "\n".join(make_table(tmp_path, notes=["A remark."], source={"paper": "Tursun et al."}).notes)
    assert "shapes 1 test: 4 queries from 3 reference images." in notes
    assert "Protocol: preprocess center-crop, remove_reference no." in notes
    assert "LinCIR + PDV: PDV: beta 0.5, alpha_image 1.25, alpha_text 0.75." in notes
    assert "A remark." in notes
    assert "Paper: Tursun et al." in notes


def test_queries_without_references_stand_for_themselves(tmp_path: Path) -> None:
    table = make_table(tmp_path)
    records = {
        key: replace(record, outcome=replace(record.outcome, references=list(record.outcome.query_ids)))
        for key, record in table.records.items()
    }
    assert "shapes 1 test: 4 queries." in Table(table.spec, records, {}).notes


def test_rows_that_lack_the_same_share_a_note(tmp_path: Path) -> None:
    failing: dict[str, Exception] = {name: InputError("No data.") for name in ("text", "lincir")}
    assert "Text only; LinCIR: not run: No data." in make_table(tmp_path, failing).notes


def test_settings_of_pdv_that_differ_name_their_seeds(tmp_path: Path) -> None:
    table = make_table(tmp_path, seeds=3)
    key = ("lincir-pdv", 1)
    other = replace(table.records[key].outcome, pdv={"beta": 0.25})
    records = {**table.records, key: replace(table.records[key], outcome=other)}
    notes = Table(table.spec, records, {}).notes
    assert (
        "LinCIR + PDV: PDV: beta 0.5, alpha_image 1.25, alpha_text 0.75 (seed 0, 2); beta 0.25 (seed 1)."
        in notes
    )


def test_every_format_from_one_object(tmp_path: Path) -> None:
    table = make_table(tmp_path)
    assert table.render("markdown") == table.to_markdown()
    assert "\\toprule" in table.render("latex")
    assert "<table" in table.render("html")
    assert table._repr_html_() == table.to_html()
    assert "\n" not in repr(table)
    with pytest.raises(InputError, match="'pdf' is none of markdown, latex, csv, html"):
        table.render("pdf")


@pytest.mark.parametrize(("value", "text"), [(1.234, "+1.23"), (-0.004, "0.00"), (-2.0, "−2.00")])
def test_signs(value: float, text: str) -> None:
    assert signed(value) == text


@pytest.mark.parametrize(
    ("p", "text"), [(None, "–"), (0.00005, "< 0.0001"), (0.0312, "0.0312"), (1.0, "1.0000")]
)
def test_p_values(p: float | None, text: str) -> None:
    assert p_value(p) == text
