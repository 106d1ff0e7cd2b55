"""Running a table: only the missing cells, each stored as soon as it is done."""

import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from tqdm import tqdm

from mmret.errors import InputError
from mmret.tables.cells import CellOutcome, CellRecord, CellRequest
from mmret.tables.provenance import revision, versions
from mmret.tables.requests import Fingerprints, InstalledFingerprints, request_cell
from mmret.tables.server import ServerScores, import_scores, load_scores, scores_path
from mmret.tables.spec import TableSpec
from mmret.tables.table import CellKey, Table

Runner = Callable[[CellRequest], CellOutcome]


def run_table(
    spec: TableSpec,
    runner: Runner,
    out: Path,
    only: Collection[str] | None = None,
    force: bool = False,
    fingerprints: Fingerprints | None = None,
) -> Table:
    """Run the cells that have no record yet and return the whole table.

    Each record is written as soon as its cell is done, so a killed run goes on where it stopped. A cell that
    lacks its data or weights (InputError) stays empty with the reason, and the rest goes on; any other
    exception is a bug and ends the run.

    Args:
        spec: The table.
        runner: Runs one cell.
        out: Folder of results; this table's lie in the folder of its name.
        only: Names of the rows to run (`row`, or `row@benchmark`); the others show what is stored. All by default.
        force: Run the cells of these rows even if they have a record.
        fingerprints: What the names of backbones and benchmarks stand for; as installed by default.
    """
    chosen = spec.select(only) if only is not None else {row.name for row in spec.rows}
    reasons: dict[CellKey, str] = {}
    requests = dict(_requests(spec, out / spec.name, fingerprints or InstalledFingerprints(), reasons))
    stored = {key: _stored(request) for key, request in requests.items()}
    found = {key: record for key, record in stored.items() if record is not None}
    pending = [key for key in requests if key[0] in chosen and (force or key not in found)]
    for key in tqdm(pending, desc=spec.name, unit="cell", file=sys.stderr, disable=not pending):
        try:
            found[key] = _run_cell(requests[key], runner)
        except InputError as error:
            reasons[key] = str(error)
            tqdm.write(f"{key[0]}, seed {key[1]}: not run: {error}", file=sys.stderr)
    left = {key: "left out of this run" for key in requests if key not in found and key not in reasons}
    return Table(spec, found, reasons | left, dict(_server_scores(requests, found)))


def import_row_scores(
    spec: TableSpec,
    row: str,
    source: Path,
    out: Path,
    *,
    seed: int = 0,
    scored_on: str | None = None,
    fingerprints: Fingerprints | None = None,
) -> str:
    """Store what an evaluation server gave for a row's submission, and say so in a sentence.

    Args:
        spec: The table.
        row: Name of the row, such as `searle-b32@circo`.
        source: The JSON file of the scores, see `mmret.tables.server.import_scores`.
        out: Folder of results.
        seed: Of the cell.
        scored_on: The day of the scores (ISO 8601); by default the file's, else today.
        fingerprints: As in `run_table`.

    Raises:
        InputError: No such row, or as `import_scores`.
    """
    folder = out / spec.name
    request = request_cell(spec, spec.row(row), seed, fingerprints or InstalledFingerprints(), folder)
    scores = import_scores(request, source, scored_on)
    values = ", ".join(f"{name} {value:.2f} ({scores.dates[name]})" for name, value in scores.scores.items())
    return f"{row}: {values}, stored in {scores_path(request)}."


def _server_scores(
    requests: Mapping[CellKey, CellRequest], found: Mapping[CellKey, CellRecord]
) -> Iterator[tuple[CellKey, ServerScores]]:
    """The imported scores of the cells that await some; a damaged file is reported and passed over."""
    for key, record in found.items():
        try:
            scores = load_scores(requests[key], record)
        except InputError as error:
            tqdm.write(f"{error}", file=sys.stderr)
            continue
        if scores is not None:
            yield key, scores


def _requests(
    spec: TableSpec, folder: Path, fingerprints: Fingerprints, reasons: dict[CellKey, str]
) -> Iterator[tuple[CellKey, CellRequest]]:
    """Every cell that can be asked for, in the table's order; the others leave their reason."""
    for row in spec.rows:
        for seed in spec.seeds_of(row):
            try:
                yield (row.name, seed), request_cell(spec, row, seed, fingerprints, folder)
            except InputError as error:
                reasons[row.name, seed] = str(error)


def _stored(request: CellRequest) -> CellRecord | None:
    if not request.path.exists():
        return None
    try:
        return CellRecord.load(request.path)
    except InputError as error:
        tqdm.write(f"{error}", file=sys.stderr)
        return None


def _run_cell(request: CellRequest, runner: Runner) -> CellRecord:
    start = time.perf_counter()
    outcome = runner(request)
    seconds = time.perf_counter() - start
    missing = [name for name in request.metrics if name not in outcome.per_query]
    if missing and not outcome.submission:
        raise ValueError(f"The runner gave no {missing[0]} for {request.row}, seed {request.seed}.")
    record = CellRecord(
        identity=request.identity,
        table=request.table,
        row=request.row,
        seed=request.seed,
        description=request.description,
        outcome=outcome,
        versions=versions(),
        revision=revision(),
        wall_seconds=round(seconds, 3),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    record.save(request.path)
    return record
