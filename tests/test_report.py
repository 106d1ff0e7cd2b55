import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from mmret.display import Gallery, make_example
from mmret.errors import InputError
from mmret.figures import HeatMap, draw_curve, draw_heat_map, draw_overview, prepare_heat_map
from mmret.report import write_report
from mmret.tables import Table, run_table
from tests.tables.toy_table import TOY, ToyFingerprints, ToyRunner, write_spec
from tests.test_display import HOSTILE, Colours, Page


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    tmp_path = tmp_path_factory.mktemp("table")
    rows = [{**TOY["rows"][0], "label": HOSTILE, "note": HOSTILE}, *TOY["rows"][1:]]
    spec = write_spec(
        tmp_path, rows=rows, notes=[HOSTILE], source={"paper": "PDV", "url": "https://example.org/pdv"}
    )
    return run_table(spec, ToyRunner(), tmp_path / "out", fingerprints=ToyFingerprints())


def make_heat_map(**changes: Any) -> HeatMap:
    beta, gamma = (item.ravel() for item in np.meshgrid([0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 2.0]))
    values = np.where((beta == 0.5) & (gamma == 1.0), 0.4, 0.1)
    arguments = {"beta": beta, "gamma": gamma, "values": values, "metric": "map@10", "split": "val"}
    return HeatMap(**{**arguments, "points": {"base": (1.0, 1.0), HOSTILE: (0.5, 1.0)}, **changes})


@pytest.fixture(scope="module")
def page(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Page:
    example = make_example(
        Colours(), {HOSTILE: [("a", 1.0)]}, query_id="q", text=HOSTILE, reference=Image.new("RGB", (9, 9))
    )
    path = write_report(
        tmp_path_factory.mktemp("page") / "deep" / "report.html",
        title=HOSTILE,
        command=HOSTILE,
        table=table,
        curves={HOSTILE: [(0, 2.0), (10, 1.0)]},
        sweep=make_heat_map(),
        galleries=[Gallery(HOSTILE, (example,))],
        facts={HOSTILE: HOSTILE},
    )
    return Page(path.read_text(encoding="utf-8"))


def test_every_text_stays_a_text(page: Page) -> None:
    assert not page.of("script")
    # Title (twice), command, fact (twice), row, two notes, curve, two gallery titles and captions, figures …
    assert sum(HOSTILE in text for text in page.texts) >= 13


def test_nothing_is_loaded(page: Page) -> None:
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form"}
    loaded = [
        value
        for _, attributes in page.tags
        for key, value in attributes.items()
        if key in {"src", "xlink:href"}
    ]
    assert loaded
    assert all(value is not None and value.startswith(("data:image/", "#")) for value in loaded)
    assert {attributes["href"] for attributes in page.of("a")} == {"https://example.org/pdv"}
    policy = next(meta["content"] for meta in page.of("meta") if "http-equiv" in meta)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_it_can_be_read_without_seeing_it(page: Page) -> None:
    assert page.of("html")[0]["lang"] == "en"
    assert all(image["alt"] for image in page.of("img"))
    assert all(picture["role"] == "img" and picture["aria-label"] for picture in page.of("svg"))
    assert {header["scope"] for header in page.of("th")} == {"col", "row"}
    assert len(page.of("h1")) == 1
    targets = [section["aria-labelledby"] for section in page.of("section")]
    assert targets == [heading["id"] for heading in page.of("h2")]


def test_ids_are_unique(page: Page) -> None:
    ids = [
        attributes["id"]
        for _, attributes in page.tags
        if "id" in attributes and "gallery" in str(attributes["id"])
    ]
    clips = [attributes["id"] for attributes in page.of("clippath")]
    assert len(set(ids)) == len(ids)
    assert len(set(clips)) == len(clips) >= 3


def test_a_report_of_a_table_alone(table: Table, tmp_path: Path) -> None:
    text = write_report(tmp_path / "r.html", title="T", command="mmret", table=table).read_text(
        encoding="utf-8"
    )
    assert "A toy: 3 of 3 rows have results. 0 of 1 claims hold" in text
    assert 'id="training"' not in text
    assert 'id="sweep"' not in text


def test_a_curve_leaves_out_what_is_not_finite() -> None:
    picture = draw_curve("loss", [(0, 2.0), (5, float("nan")), (10, 0.5)])
    assert picture.details == ("2 at step 0, 0.5 at step 10",)
    assert draw_curve("loss", [(0, float("inf"))]).details == ("no finite value was logged",)


def test_figures_take_the_page_s_colours_and_are_whole_xml() -> None:
    svg = str(draw_curve(HOSTILE, [(0, 2.0), (10, 1.0)]).svg)
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert "currentColor" in svg
    assert "var(--accent" in svg
    assert "#010203" not in svg
    assert "#040506" not in svg


def test_a_heat_map_tells_the_best_and_the_marked_settings() -> None:
    assert draw_heat_map(make_heat_map()).details == (
        "highest: 40.00 at β 0.50, γ 1.00",
        "base: 10.00 at β 1.00, γ 1.00",
        f"{HOSTILE}: 40.00 at β 0.50, γ 1.00",
    )


def test_a_heat_map_s_columns_have_their_own_gammas() -> None:
    beta, gamma = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]), np.array([-0.5, 2.0, 2.0, -0.5, 3.0, 1.0])
    svg = str(draw_heat_map(make_heat_map(beta=beta, gamma=gamma, values=np.linspace(0, 1, 6))).svg)
    assert len(re.findall("data:image/png", svg)) == 2


def test_a_cell_s_sweep_becomes_a_heat_map_with_its_settings_marked(table: Table) -> None:
    pdv, base = table.records["lincir-pdv", 0], table.records["lincir", 0]
    automatic = replace(pdv, outcome=replace(pdv.outcome, pdv={"beta": 0.5, "alpha_image": "auto"}))
    late = replace(
        pdv, outcome=replace(pdv.outcome, pdv={"beta": 0.25, "alpha_image": 1.0, "alpha_text": 2.0})
    )
    found = HeatMap.from_record(pdv, {"chosen": pdv, "late": late, "no setting": base, "auto": automatic})
    # γ = .5 · 1.25 + .5 · .75 and .75 · 1 + .25 · 2
    assert found.points == {"base": (1.0, 1.0), "chosen": (0.5, 1.0), "late": (0.25, 1.25)}
    assert (found.metric, found.split, found.values.tolist()) == (
        "success@1",
        "shapes val",
        [0.1, 0.2, 0.3, 0.4],
    )
    with pytest.raises(InputError, match="Row lincir of table toy holds no sweep"):
        HeatMap.from_record(base, {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": np.ones(3)}, "of one length"),
        ({"beta": np.full(12, 0.5)}, "one of them never changes"),
    ],
)
def test_what_is_no_grid_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_heat_map(**changes)


def test_the_overview_shows_the_rows_that_were_run(table: Table) -> None:
    picture = draw_overview(table)
    assert picture is not None
    assert picture.title == "success@1 × 100, with 95 % intervals"
    assert len(picture.details) == 3
    assert draw_overview(Table(table.spec, {}, {})) is None


def test_a_label_with_money_is_no_formula(table: Table) -> None:
    rows = tuple(replace(row, label=f"$a$ {row.name}") for row in table.spec.rows)
    picture = draw_overview(Table(replace(table.spec, rows=rows), table.records, {}))
    assert picture is not None
    assert "$a$ lincir-pdv" in Page(str(picture.svg)).texts


def test_a_mark_lies_where_the_map_was_drawn_with_it() -> None:
    """matplotlib's own star for the base, found in the SVG, is where the ring would be."""
    beta, gamma = (part.ravel() for part in np.meshgrid([0.0, 0.5, 1.0], [0.0, 1.0, 2.0]))
    heat_map = HeatMap(beta, gamma, gamma / 2, "success@1", "toy val", {"base": (0.5, 1.5)})
    drawn = prepare_heat_map(heat_map)
    places = [
        (float(x), float(y))
        for x, y in re.findall(r'<use [^>]*x="([0-9.]+)" y="([0-9.]+)"', drawn.picture.svg)
    ]
    assert min(abs(x - a) + abs(y - b) for x, y in places for a, b in [drawn.locate(0.5, 1.5)]) < 0.5
    assert drawn.locate(9, -9) == pytest.approx(
        (drawn.frame[0] + drawn.frame[2], drawn.frame[1] + drawn.frame[3])
    )
    marked = drawn.mark("<here>", 0.5, 1.5)
    assert marked.details[-1] == "<here>: 50.00 at β 0.50, γ 1.50"
