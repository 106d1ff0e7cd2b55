"""What a rendered table shows, before any format: grids of entries."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mmret.tables.spec import TableSpec
from mmret.tables.summary import ClaimResult, ClaimVerdict, Estimate, PaperVerdict, RowResult

Tone = Literal["", "best", "good", "bad", "muted"]

BLANK = "–"
"""What stands where there is no number: never a zero, and never the paper's number."""

_TONES: Mapping[PaperVerdict | ClaimVerdict, Tone] = {
    "matches": "good",
    "holds": "good",
    "above": "bad",
    "below": "bad",
    "reversed": "bad",
    "not run": "muted",
    "awaiting server": "muted",
    "not shown": "muted",
    "not comparable": "muted",
}


@dataclass(frozen=True)
class Entry:
    """One entry of a grid: a text, a smaller detail behind it (an interval), and its tone."""

    text: str
    detail: str = ""
    tone: Tone = ""


NOT_RUN = Entry("not run", tone="muted")
AWAITING = Entry("submission written, awaiting server", tone="muted")
"""What stands where the ground truth is not public, until the server's score is imported."""


@dataclass(frozen=True)
class Column:
    """A column's title, and whether it holds numbers (aligned to the right)."""

    title: str
    numeric: bool = True


@dataclass(frozen=True)
class Grid:
    """A caption, columns and rows; the first column names the row."""

    caption: str
    columns: tuple[Column, ...]
    body: tuple[tuple[Entry, ...], ...]


def signed(value: float) -> str:
    """Points with 2 decimals and their sign; a value that rounds to zero has none."""
    text = f"{value:+.2f}"
    return "0.00" if text in {"+0.00", "-0.00"} else text.replace("-", "−")


def points(value: float) -> str:
    """Points with 2 decimals."""
    return f"{value:.2f}"


def p_value(p: float | None) -> str:
    """Four decimals; a smaller p as a bound."""
    if p is None:
        return BLANK
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def table_grids(
    spec: TableSpec, rows: Sequence[RowResult], claims: Sequence[ClaimResult]
) -> tuple[Grid, ...]:
    """The table itself, one grid a benchmark or average, and its claims if it has any.

    Ours stands beside the paper's if the spec has the paper's rows.
    """
    published = any(row.spec.published or row.spec.unpublished for row in rows)
    draw = _paper_grid if published else _metric_grid
    sections = [[row for row in rows if row.spec.section == name] for name in spec.sections]
    main = tuple(draw(spec, _caption(spec, section), section) for section in sections)
    return (*main, _claim_grid(spec, claims)) if claims else main


def _caption(spec: TableSpec, rows: Sequence[RowResult]) -> str:
    """The table's title, and the section with its split where there are several."""
    first = rows[0].spec
    return f"{spec.title}: {first.section} {first.split}" if first.section else spec.title


def _metric_grid(spec: TableSpec, caption: str, rows: Sequence[RowResult]) -> Grid:
    """Rows × metrics."""
    kinds, metrics = _kind_columns(rows), rows[0].spec.metrics
    best = {name: _best(rows, name) for name in metrics}
    body = tuple(
        (
            Entry(row.spec.label),
            *(Entry(getattr(row.spec, kind)) for kind in kinds),
            _seeds(spec, row),
            *(_ours_entry(row, name, best[name]) for name in metrics),
        )
        for row in rows
    )
    columns = (_METHOD, *(Column(kind.title(), False) for kind in kinds), Column("Seeds"))
    return Grid(caption, (*columns, *map(Column, metrics)), body)


_METHOD = Column("Method", False)


def _kind_columns(rows: Sequence[RowResult]) -> tuple[str, ...]:
    """What differs between the rows besides the method."""
    kinds = ("backbone", "benchmark")
    return tuple(kind for kind in kinds if len({getattr(row.spec, kind) for row in rows}) > 1)


def _best(rows: Sequence[RowResult], metric: str) -> Estimate | None:
    found = [row.estimates[metric] for row in rows]
    return max((item for item in found if item is not None), key=lambda item: item.value, default=None)


def _seeds(spec: TableSpec, row: RowResult) -> Entry:
    wanted, done = len(spec.seeds_of(row.spec)), len(row.records)
    if row.spec.train is None or row.spec.average_of:
        return Entry(BLANK, tone="muted")
    return Entry(f"{done}" if done == wanted else f"{done} of {wanted}")


def _ours_entry(row: RowResult, metric: str, best: Estimate | None = None) -> Entry:
    """Our number with its interval, the server's with its day, or which of the two is missing."""
    item, server = row.estimates[metric], row.server.get(metric)
    if server is not None:
        return Entry(points(server.value), f"server, {server.day}")
    if item is None:
        return AWAITING if row.submitted else NOT_RUN
    is_best = best is not None and points(item.value) == points(best.value)
    return Entry(points(item.value), _interval(item), "best" if is_best else "")


def _interval(item: Estimate, show: Callable[[float], str] = points) -> str:
    return f"[{show(item.low)}, {show(item.high)}]"


def _paper_grid(spec: TableSpec, caption: str, rows: Sequence[RowResult]) -> Grid:
    """One line for each row and metric: ours | paper | Δ | verdict."""
    kinds = _kind_columns(rows)
    titles = ("Ours", "Paper", "Δ")
    columns = (_METHOD, *(Column(kind.title(), False) for kind in (*kinds, "metric")), *map(Column, titles))
    body = tuple(
        (
            Entry(row.spec.label),
            *(Entry(getattr(row.spec, kind)) for kind in kinds),
            Entry(name),
            *_paper_entries(row, name),
        )
        for row in rows
        for name in row.spec.metrics
    )
    return Grid(caption, (*columns, Column("Verdict", False)), body)


def _paper_entries(row: RowResult, metric: str) -> Iterator[Entry]:
    comparison = row.comparisons[metric]
    yield _ours_entry(row, metric)
    if comparison.paper is not None:
        yield Entry(points(comparison.paper), row.spec.mark)
    else:
        yield Entry("unpublished here" if row.spec.unpublished else BLANK, tone="muted")
    yield Entry(BLANK if comparison.delta is None else signed(comparison.delta))
    yield Entry(comparison.verdict or BLANK, tone=_TONES.get(comparison.verdict, ""))


def _claim_grid(spec: TableSpec, claims: Sequence[ClaimResult]) -> Grid:
    titles = ("Difference", "Seeds in favour", "p", "p (Holm)")
    columns = (
        Column("Claim", False),
        Column("Metric", False),
        *map(Column, titles),
        Column("Verdict", False),
    )
    return Grid("Claims", columns, tuple(tuple(_claim_entries(spec, claim)) for claim in claims))


def _claim_entries(spec: TableSpec, answer: ClaimResult) -> Iterator[Entry]:
    claim, difference = answer.claim, answer.difference
    link = f"at most {claim.margin:g} below" if claim.margin else "over"
    yield Entry(f"{spec.row(claim.row).title} {link} {spec.row(claim.against).title}")
    yield Entry(claim.metric)
    if difference is None:
        yield from [Entry(BLANK, tone="muted")] * 2
    else:
        yield Entry(signed(difference.value), _interval(difference, signed))
        yield Entry(f"{answer.seeds_in_favour} of {difference.seeds}")
    yield Entry(p_value(answer.p))
    yield Entry(p_value(answer.p_holm))
    yield Entry(answer.verdict, tone=_TONES.get(answer.verdict, ""))
