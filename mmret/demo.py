"""`mmret demo`: the whole corridor on the miniature benchmark, ending with a table and a report."""

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
    from mmret.display import Gallery, Order
    from mmret.tables.cells import CellRecord
    from mmret.tables.table import Table

SPEC = Path(__file__).resolve().parents[1] / "configs" / "tables" / "miniature.yaml"
#: The row whose PDV the report looks into, with its base and its control.
BASE, CONTROL, PDV = "lincir", "lincir+fusion", "lincir+pdv"


def build_parser() -> argparse.ArgumentParser:
    """The options of `mmret demo`."""
    parser = argparse.ArgumentParser(
        prog="mmret demo",
        description="Train φ on text, run composed retrieval methods with and without PDV on a generated benchmark, "
        "and write a report with pictures. Nothing is downloaded.",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder of results (%(default)s)")
    parser.add_argument("--open", action="store_true", help="open the report in the browser")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the table with one training seed, print it, write the report and say where it lies."""
    options = build_parser().parse_args(argv)
    if not SPEC.is_file():
        raise InputError(f"The demo reads {SPEC}; run it from a clone of the repository.")
    start = time.perf_counter()
    # Imported here: `mmret demo --help` needs no torch.
    from mmret.experiment import run_cell
    from mmret.tables.load import load_spec
    from mmret.tables.run import run_table

    print(
        "Running the miniature table with one training seed: LinCIR's φ is trained live, on text alone; the weights "
        "of the other methods come with the package.",
        flush=True,
    )
    table = run_table(load_spec(SPEC).with_seeds(1).with_shipped_weights(), run_cell, options.out)
    print(table.render("markdown"))
    report = _write_report(options.out, table, time.perf_counter() - start)
    print(f"report: {report.resolve()}")
    if options.open:
        webbrowser.open(report.resolve().as_uri())
    return 0


def _write_report(out: Path, table: "Table", seconds: float) -> Path:
    from mmret.figures import HeatMap
    from mmret.report import write_report

    records = {row.spec.name: row.records[0] for row in table.rows if row.records}
    missing = [name for name in (BASE, CONTROL, PDV) if name not in records]
    if missing:
        raise InputError(f"The demo has no result for {missing[0]}; the table above says why.")
    sweep = HeatMap.from_record(records[PDV], {"PDV": records[PDV], "plain fusion": records[CONTROL]})
    return write_report(
        out / "report.html",
        title="Composed image retrieval in miniature",
        command="mmret demo",
        table=table,
        curves=_curves(Path(records[BASE].outcome.facts["training"])),
        sweep=sweep,
        galleries=_galleries(records),
        facts=_facts(records, seconds),
    )


def _curves(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Loss curves of φ's training, from Lightning's CSV log."""
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = {"LinCIR training loss": "train/loss", "LinCIR validation cosine": "val/cosine"}
    return {
        title: [(float(row["step"]), float(row[column])) for row in rows if row.get(column)]
        for title, column in wanted.items()
    }


def _galleries(records: Mapping[str, "CellRecord"]) -> list["Gallery"]:
    """PDV beside its base, where it gains most, where it loses most, and a spread over the benchmark."""
    from mmret.data import load_benchmark
    from mmret.display import show_run
    from mmret.retrieval.run import Run

    benchmark = load_benchmark("miniature", "test")
    base, run = (Run.load(records[name].outcome.facts["run"]) for name in (BASE, PDV))
    titles: dict[Order, str] = {
        "spread": "Queries from all over the test set",
        "gains": "Where PDV gains",
        "losses": "Where PDV loses",
    }
    return [
        show_run(run, benchmark, label="LinCIR + PDV", beside={"LinCIR": base}, order=order, title=title)
        for order, title in titles.items()
    ]


def _facts(records: Mapping[str, "CellRecord"], seconds: float) -> dict[str, object]:
    record = records[PDV]
    largest = max(
        resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    # Kilobytes on Linux, bytes on macOS.
    peak = largest / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    commit, *dirty = record.revision.split("-")
    setting = record.outcome.pdv or {}
    return {
        "Time (less where results were stored)": f"{seconds:.0f} s",
        "Peak memory of the largest process": f"{peak:,.0f} MB",
        "PDV setting, chosen on val": ", ".join(f"{knob} {value}" for knob, value in setting.items()),
        "Revision": "-".join([commit[:12], *dirty]),
        "Versions": ", ".join(f"{name} {version}" for name, version in record.versions.items()),
    }
