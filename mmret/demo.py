"""`mmret demo`: both halves of the house on generated data, composed images and pages, each ending with a report."""

import argparse
import csv
import resource
import sys
import time
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmret.errors import InputError

if TYPE_CHECKING:
    from mmret.data.benchmark import Benchmark
    from mmret.display import Gallery, Order
    from mmret.tables.cells import CellRecord
    from mmret.tables.table import Table

TABLES = Path(__file__).resolve().parents[1] / "configs" / "tables"
SPEC, PAGES_SPEC = TABLES / "miniature.yaml", TABLES / "miniature_pages.yaml"
#: The row whose PDV the report looks into, with its base and its control.
BASE, CONTROL, PDV = "lincir", "lincir+fusion", "lincir+pdv"
#: Of pages: the row that trains, and the one beside which its rankings are shown.
TUNED, WORDS = "dse-tuned", "bm25"


def build_parser() -> argparse.ArgumentParser:
    """The options of `mmret demo`."""
    parser = argparse.ArgumentParser(
        prog="mmret demo",
        description="Train φ on text, run composed retrieval methods with and without PDV on a generated benchmark; "
        "train a page encoder for a minute and search generated pages; write reports with pictures. Nothing is "
        "downloaded.",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder of results (%(default)s)")
    parser.add_argument("--open", action="store_true", help="open the reports in the browser")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run both tables with one training seed, print them, write the reports and say where they lie."""
    options = build_parser().parse_args(argv)
    absent = [str(spec) for spec in (SPEC, PAGES_SPEC) if not spec.is_file()]
    if absent:
        raise InputError(f"The demo reads {absent[0]}; run it from a clone of the repository.")
    reports = [_composed(options.out), _pages(options.out)]
    for report in reports:
        print(f"report: {report.resolve()}")
        if options.open:
            webbrowser.open(report.resolve().as_uri())
    return 0


def _composed(out: Path) -> Path:
    """Composed image retrieval; the path of its report."""
    from mmret.figures import HeatMap
    from mmret.report import write_report

    table, seconds = _run(
        SPEC,
        out,
        "Running the miniature table with one training seed: LinCIR's φ is trained live, on text alone; the weights of "
        "the other methods come with the package.",
    )
    records = _records(table, BASE, CONTROL, PDV)
    sweep = HeatMap.from_record(records[PDV], {"PDV": records[PDV], "plain fusion": records[CONTROL]})
    wanted = {"LinCIR training loss": "train/loss", "LinCIR validation cosine": "val/cosine"}
    setting = records[PDV].outcome.pdv or {}
    chosen = ", ".join(f"{knob} {value}" for knob, value in setting.items())
    return write_report(
        out / "report.html",
        title="Composed image retrieval in miniature",
        command="mmret demo",
        table=table,
        curves=_curves(records[BASE], wanted),
        sweep=sweep,
        galleries=_galleries(records),
        facts={"PDV setting, chosen on val": chosen, **_facts(records[PDV], seconds)},
    )


def _pages(out: Path) -> Path:
    """Document screenshots; the path of their report."""
    from mmret.report import write_report

    table, seconds = _run(
        PAGES_SPEC,
        out,
        "Running the table of generated pages with one training seed: the page encoder that comes with the package is "
        "trained for another minute.",
    )
    kinds = ("text", "layout", "picture")
    records = _records(table, *(f"{name}@{kind}" for name in (TUNED, WORDS) for kind in kinds))
    first = records[f"{TUNED}@text"]
    wanted = {"DSE training loss": "train/loss", "DSE validation recall@1": "val/recall@1"}
    return write_report(
        out / "pages.html",
        title="Document screenshots in miniature",
        command="mmret demo",
        table=table,
        curves=_curves(first, wanted),
        galleries=[_page_gallery(kind, records) for kind in kinds],
        facts=_facts(first, seconds),
    )


def _run(path: Path, out: Path, what: str) -> "tuple[Table, float]":
    """The table of a spec with one seed and the weights that ship, printed, and the seconds that it took."""
    # Imported here: `mmret demo --help` needs no torch.
    from mmret.experiment import run_cell
    from mmret.tables.load import load_spec
    from mmret.tables.run import run_table

    start = time.perf_counter()
    print(what, flush=True)
    table = run_table(load_spec(path).with_seeds(1).with_shipped_weights(), run_cell, out)
    print(table.render("markdown"), flush=True)
    return table, time.perf_counter() - start


def _records(table: "Table", *needed: str) -> "dict[str, CellRecord]":
    """The first record of every row; InputError where a row that the report needs has none."""
    records = {row.spec.name: row.records[0] for row in table.rows if row.records}
    missing = [name for name in needed if name not in records]
    if missing:
        raise InputError(f"The demo has no result for {missing[0]}; the table above says why.")
    return records


def _curves(record: "CellRecord", wanted: Mapping[str, str]) -> dict[str, list[tuple[float, float]]]:
    """Title → a column of a training's CSV log, by step."""
    path = Path(record.outcome.facts["training"]) / "metrics.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        title: [(float(row["step"]), float(row[column])) for row in rows if row.get(column)]
        for title, column in wanted.items()
    }


def _galleries(records: "Mapping[str, CellRecord]") -> "list[Gallery]":
    """PDV beside its base, where it gains most, where it loses most, and a spread over the benchmark."""
    from mmret.data import load_benchmark

    benchmark = load_benchmark("miniature", "test")
    titles: dict[Order, str] = {
        "spread": "Queries from all over the test set",
        "gains": "Where PDV gains",
        "losses": "Where PDV loses",
    }
    rows = {"LinCIR + PDV": records[PDV], "LinCIR": records[BASE]}
    return [_gallery(benchmark, rows, order, title) for order, title in titles.items()]


def _page_gallery(kind: str, records: "Mapping[str, CellRecord]") -> "Gallery":
    """Questions of one kind: the encoder beside the words."""
    from mmret.data import load_benchmark

    benchmark = load_benchmark(f"miniature-pages-{kind}", "test")
    rows = {"DSE": records[f"{TUNED}@{kind}"], "BM25, text layer": records[f"{WORDS}@{kind}"]}
    return _gallery(benchmark, rows, "spread", f"Questions of the kind: {kind}")


def _gallery(
    benchmark: "Benchmark", rows: "Mapping[str, CellRecord]", order: "Order", title: str
) -> "Gallery":
    """The runs of two rows side by side, the first one's label first."""
    from mmret.display import show_run
    from mmret.retrieval.run import Run

    runs = {label: Run.load(record.outcome.facts["run"]) for label, record in rows.items()}
    (label, run), *others = runs.items()
    return show_run(run, benchmark, label=label, beside=dict(others), order=order, title=title)


def _facts(record: "CellRecord", seconds: float) -> dict[str, object]:
    largest = max(
        resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    # Kilobytes on Linux, bytes on macOS.
    peak = largest / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    commit, *dirty = record.revision.split("-")
    return {
        "Time (less where results were stored)": f"{seconds:.0f} s",
        "Peak memory of the largest process": f"{peak:,.0f} MB",
        "Revision": "-".join([commit[:12], *dirty]),
        "Versions": ", ".join(f"{name} {version}" for name, version in record.versions.items()),
    }
