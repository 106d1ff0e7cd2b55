"""`mmret table`: run what a table lacks, and print it; take in what an evaluation server gave."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmret.tables.load import load_spec
from mmret.tables.requests import InstalledFingerprints
from mmret.tables.run import import_row_scores, run_table
from mmret.tables.table import FORMATS


def build_parser() -> argparse.ArgumentParser:
    """The options of `mmret table`."""
    parser = argparse.ArgumentParser(
        prog="mmret table",
        description="Run the missing cells of a table and print it; a killed run goes on where it stopped.",
    )
    parser.add_argument(
        "spec", type=Path, help="the table's YAML file, such as configs/tables/miniature.yaml"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/tables"), help="folder of results (%(default)s)"
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="markdown", help="of what is printed (%(default)s)"
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="take the table's first N seeds only")
    parser.add_argument(
        "--shipped",
        action="store_true",
        help="take the weights that come with the package where a row names some, and train the others",
    )
    parser.add_argument(
        "--rows",
        metavar="A,B",
        help="run these rows (row or row@benchmark) only; the others show what is stored",
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="go on without images that are not there (marked as such)",
    )
    parser.add_argument("--force", action="store_true", help="run the cells even if they have a result")
    server = parser.add_argument_group(
        "scores of an evaluation server", "for splits whose ground truth is not public; nothing is run then"
    )
    server.add_argument(
        "--import-scores",
        nargs=2,
        metavar=("ROW", "FILE.json"),
        help='store what the server gave for a row: {"mAP@5": 9.35, ...}, in points',
    )
    server.add_argument("--seed", type=int, default=0, help="the cell's training seed (%(default)s)")
    server.add_argument(
        "--scored-on", metavar="YYYY-MM-DD", help="the day of the scores (the file's, or today)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print; the exit status is 0 even if rows lack their data, which the table says."""
    options = build_parser().parse_args(argv)
    spec = load_spec(options.spec)
    fingerprints = InstalledFingerprints(options.allow_missing)
    if options.import_scores:
        row, source = options.import_scores
        cell = {"seed": options.seed, "scored_on": options.scored_on, "fingerprints": fingerprints}
        print(import_row_scores(spec, row, Path(source), options.out, **cell))
        return 0
    if options.seeds is not None:
        spec = spec.with_seeds(options.seeds)
    if options.shipped:
        spec = spec.with_shipped_weights()
    only = options.rows.split(",") if options.rows else None
    # Imported last: it brings torch, which a mistake in the YAML need not wait for.
    from mmret.experiment import run_cell

    table = run_table(spec, run_cell, options.out, only, options.force, fingerprints)
    print(table.render(options.format))
    return 0
