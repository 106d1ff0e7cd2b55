"""The demo from its command to its report, on the real benchmark with a φ that is hardly trained."""

from pathlib import Path

import pytest
import yaml

from mmret import cli, demo
from mmret.errors import InputError
from tests.test_display import Page


def small_table(folder: Path) -> Path:
    """The demo's table with the rows of its report alone, and two steps of training."""
    spec = yaml.safe_load(demo.SPEC.read_text(encoding="utf-8"))
    names = (demo.BASE, demo.CONTROL, demo.PDV)
    rows = [row for row in spec["rows"] if row["name"] in names]
    config = demo.SPEC.parents[2] / rows[0]["train"]["config"]
    rows[0]["train"] = {"config": str(config), "trainer.max_steps": 2, "trainer.log_every_n_steps": 1}
    claims = [claim for claim in spec["claims"] if {claim["row"], claim["against"]} <= set(names)]
    path = folder / "miniature.yaml"
    path.write_text(yaml.safe_dump({**spec, "rows": rows, "claims": claims}), encoding="utf-8")
    return path


def small_pages_table(folder: Path) -> Path:
    """The table of pages without the rows that its report does not show, and two steps of training."""
    spec = yaml.safe_load(demo.PAGES_SPEC.read_text(encoding="utf-8"))
    rows = [row for row in spec["rows"] if row["name"] in (demo.TUNED, demo.WORDS)]
    config = demo.PAGES_SPEC.parents[2] / rows[-1]["train"]["config"]
    rows[-1]["train"] = {
        "config": str(config),
        "data.init_args.pages": 32,
        "data.init_args.batch_size": 16,
        "data.init_args.held_out": 16,
        "trainer.val_check_interval": 1,
        "trainer.log_every_n_steps": 1,
    }
    path = folder / "miniature_pages.yaml"
    claims = [{"row": "dse-tuned@text", "against": "bm25@text", "metric": "success@10", "margin": 10}]
    path.write_text(yaml.safe_dump({**spec, "rows": rows, "claims": claims}), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.multiprocess
def test_the_demo_ends_with_a_table_and_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "SPEC", small_table(tmp_path))
    monkeypatch.setattr(demo, "PAGES_SPEC", small_pages_table(tmp_path))
    assert cli.main(["demo", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "| LinCIR + PDV " in printed and "| DSE, tuned for a minute" in printed
    reports = [tmp_path / "out" / name for name in ("report.html", "pages.html")]
    assert printed.splitlines()[-2:] == [f"report: {path}" for path in reports]
    pages = Page(reports[1].read_text(encoding="utf-8"))
    assert "Questions of the kind: picture" in pages.texts
    # Four questions of each kind with five pages by look, and by words where a text layer has any: not of pictures.
    assert len(pages.of("img")) == 3 * 4 * 5 + 2 * 4 * 5
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    sections = [section["aria-labelledby"] for section in page.of("section")]
    assert sections[:6] == ["run", "results", "claims", "notes", "training", "sweep"]
    assert "Queries from all over the test set" in page.texts
    # The overview, two training curves and the heat map; the reference and twice five hits a query.
    assert len(page.of("svg")) == 4
    assert len(page.of("img")) % 11 == 0


def test_the_demo_needs_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "SPEC", tmp_path / "gone.yaml")
    with pytest.raises(InputError, match=r"The demo reads .*gone\.yaml; run it from a clone"):
        demo.main([])
