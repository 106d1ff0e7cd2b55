"""The report of an experiment: one self-contained HTML page that loads nothing and runs no script."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmret.atomic import atomic_write
from mmret.display import Gallery
from mmret.figures import Curve, HeatMap, draw_curve, draw_heat_map, draw_overview
from mmret.tables.table import Table
from mmret.templates import render_template


def write_report(
    path: str | Path,
    *,
    title: str,
    command: str,
    table: Table,
    summary: str = "",
    curves: Mapping[str, Curve] | None = None,
    sweep: HeatMap | None = None,
    galleries: Sequence[Gallery] = (),
    facts: Mapping[str, object] | None = None,
) -> Path:
    """Write the page, whole or not at all, and return its path; every text on it is escaped.

    Args:
        path: Where to write it.
        title: Of the page.
        command: What was run, as typed.
        table: The results; its claims and notes stand below it.
        summary: A sentence or two under the title; says what the table found by default.
        curves: Title → training curve.
        sweep: PDV's metric over its two knobs.
        galleries: Pictures of rankings, a section each.
        facts: What else is worth knowing (times, sizes, versions), by name.

    Raises:
        InputError: The page cannot be written.
    """
    page = render_template(
        "report.html",
        title=title,
        command=command,
        summary=summary or _summary(table),
        facts={name: str(value) for name, value in (facts or {}).items()},
        grids=table.grids[:-1] if table.claims else table.grids,
        claims=table.grids[-1] if table.claims else None,
        notes=table.notes,
        overview=draw_overview(table),
        curves=[draw_curve(name, curve) for name, curve in (curves or {}).items()],
        heat_map=None if sweep is None else draw_heat_map(sweep),
        galleries=galleries,
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as handle:
        handle.write(page.encode())
    return path


def _summary(table: Table) -> str:
    held = sum(answer.verdict == "holds" for answer in table.claims)
    done = sum(bool(row.records) for row in table.rows)
    claims = f" {held} of {len(table.claims)} claims hold after Holm’s correction." if table.claims else ""
    return f"{table.spec.title}: {done} of {len(table.rows)} rows have results.{claims}"
