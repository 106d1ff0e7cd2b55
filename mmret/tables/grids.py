"""What a rendered table shows, before any format: grids of entries."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mmret.tables.spec import RowSpec, TableSpec
from mmret.tables.summary import ClaimResult, ClaimVerdict, Comparison, Estimate, PaperVerdict, RowResult

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
    "not shown": "muted",
    "not comparable": "muted",
}


@dataclass(frozen=True)
class Entry:
    """One entry of a grid: a text, a smaller detail behind it (an interval), and its tone."""

    text: str
    detail: str = ""
    tone: Tone = ""


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
    """The table itself, beside the paper if the spec has the paper's rows, and its claims if it has any."""
    published = any(row.spec.published or row.spec.unpublished for row in rows)
    main = _paper_grid(spec, rows) if published else _metric_grid(spec, rows)
    return (main, _claim_grid(spec, claims)) if claims else (main,)


def _metric_grid(spec: TableSpec, rows: Sequence[RowResult]) -> Grid:
    """Rows × metrics."""
    kinds = _kind_columns(spec)
    best = {name: _best(rows, name) for name in spec.metrics}
    body = tuple(
        (
            Entry(row.spec.label),
            *(Entry(getattr(row.spec, kind)) for kind in kinds),
            _seeds(spec, row),
            *(_estimate_entry(row.estimates[name], best[name]) for name in spec.metrics),
        )
        for row in rows
    )
    columns = (_METHOD, *(Column(kind.title(), False) for kind in kinds), Column("Seeds"))
    return Grid(spec.title, (*columns, *map(Column, spec.metrics)), body)


_METHOD = Column("Method", False)


def _kind_columns(spec: TableSpec) -> tuple[str, ...]:
    """What differs between the rows besides the method."""
    kinds = ("backbone", "benchmark")
    return tuple(kind for kind in kinds if len({getattr(row, kind) for row in spec.rows}) > 1)


def _best(rows: Sequence[RowResult], metric: str) -> Estimate | None:
    found = [row.estimates[metric] for row in rows]
    return max((item for item in found if item is not None), key=lambda item: item.value, default=None)


def _seeds(spec: TableSpec, row: RowResult) -> Entry:
    wanted, done = len(spec.seeds_of(row.spec)), len(row.records)
    if row.spec.train is None:
        return Entry(BLANK, tone="muted")
    return Entry(f"{done}" if done == wanted else f"{done} of {wanted}")


def _estimate_entry(item: Estimate | None, best: Estimate | None) -> Entry:
    if item is None:
        return Entry("not run", tone="muted")
    is_best = best is not None and points(item.value) == points(best.value)
    return Entry(points(item.value), _interval(item), "best" if is_best else "")


def _interval(item: Estimate, show: Callable[[float], str] = points) -> str:
    return f"[{show(item.low)}, {show(item.high)}]"


def _paper_grid(spec: TableSpec, rows: Sequence[RowResult]) -> Grid:
    """One line for each row and metric: ours | paper | Δ | verdict."""
    kinds = _kind_columns(spec)
    titles = ("Ours", "Paper", "Δ")
    columns = (_METHOD, *(Column(kind.title(), False) for kind in (*kinds, "metric")), *map(Column, titles))
    body = tuple(
        (
            Entry(row.spec.label),
            *(Entry(getattr(row.spec, kind)) for kind in kinds),
            Entry(name),
            *_paper_entries(row.spec, row.estimates[name], row.comparisons[name]),
        )
        for row in rows
        for name in spec.metrics
    )
    return Grid(spec.title, (*columns, Column("Verdict", False)), body)


def _paper_entries(row: RowSpec, ours: Estimate | None, comparison: Comparison) -> Iterator[Entry]:
    yield _estimate_entry(ours, None)
    if comparison.paper is not None:
        yield Entry(points(comparison.paper), row.mark)
    else:
        yield Entry("unpublished here" if row.unpublished else BLANK, tone="muted")
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
    yield Entry(f"{spec.row(claim.row).label} over {spec.row(claim.against).label}")
    yield Entry(claim.metric)
    if difference is None:
        yield from [Entry(BLANK, tone="muted")] * 2
    else:
        yield Entry(signed(difference.value), _interval(difference, signed))
        yield Entry(f"{answer.seeds_in_favour} of {difference.seeds}")
    yield Entry(p_value(answer.p))
    yield Entry(p_value(answer.p_holm))
    yield Entry(answer.verdict, tone=_TONES.get(answer.verdict, ""))
