"""One table, in every format: the spec, what its cells gave, and what follows from them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Final

from mmret.errors import InputError
from mmret.tables import formats
from mmret.tables.cells import CellRecord
from mmret.tables.grids import Grid, table_grids
from mmret.tables.notes import table_notes
from mmret.tables.server import ServerScores
from mmret.tables.spec import RowSpec, TableSpec
from mmret.tables.summary import (
    ClaimResult,
    Estimate,
    RowResult,
    ServerValue,
    decide_claims,
    summarise_average,
    summarise_row,
)

CellKey = tuple[str, int]
"""Name of the row, and the seed."""

_ESTIMATE_FIELDS: Final = tuple(item.name for item in fields(Estimate))
_CSV_FIELDS: Final = (
    *("kind", "row", "label", "backbone", "benchmark", "split", "metric", "against", "margin"),
    *_ESTIMATE_FIELDS,
    *("server", "paper", "mark", "delta", "p", "p_holm", "seeds_in_favour", "verdict", "reason"),
)


@dataclass(frozen=True)
class Table:
    """A table with whatever cells there are.

    Attributes:
        spec: What was asked for.
        records: The cells that have a result.
        reasons: Why the others have none, a sentence each.
        server: What an evaluation server gave for the cells that left files for it.
    """

    spec: TableSpec
    records: Mapping[CellKey, CellRecord]
    reasons: Mapping[CellKey, str]
    server: Mapping[CellKey, ServerScores] = field(default_factory=dict)

    @cached_property
    def rows(self) -> tuple[RowResult, ...]:
        """Every row of the spec, in its order, with its estimates."""
        found: dict[str, RowResult] = {}
        for row in self.spec.rows:
            found[row.name] = self._summarise(row, found)
        return tuple(found.values())

    def _summarise(self, row: RowSpec, above: Mapping[str, RowResult]) -> RowResult:
        if row.average_of:
            return summarise_average(row, [above[name] for name in row.average_of], self.spec.tolerance)
        keys = [(row.name, seed) for seed in self.spec.seeds_of(row)]
        return summarise_row(
            row,
            [self.records[key] for key in keys if key in self.records],
            [self.server[key] for key in keys if key in self.server],
            [self.reasons[key] for key in keys if key in self.reasons],
            self.spec.tolerance,
        )

    @cached_property
    def claims(self) -> tuple[ClaimResult, ...]:
        """Every claim of the spec, in its order, with its answer."""
        return decide_claims(self.spec.claims, {row.spec.name: row.records for row in self.rows})

    @cached_property
    def grids(self) -> tuple[Grid, ...]:
        """What is shown, before any format: the table, and its claims."""
        return table_grids(self.spec, self.rows, self.claims)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What is to be known beside the numbers."""
        return table_notes(self.spec, self.rows, self.claims)

    def to_markdown(self) -> str:
        """GitHub-flavoured Markdown."""
        return formats.markdown(self.grids, self.notes)

    def to_latex(self) -> str:
        """LaTeX, for the booktabs package."""
        return formats.latex(self.grids, self.notes)

    def to_html(self) -> str:
        """An HTML fragment with its own style."""
        return formats.html(self.grids, self.notes)

    def to_csv(self) -> str:
        """Tidy CSV: a line for each row and metric (kind "cell") and each claim (kind "claim"), in points."""
        return formats.tidy_csv((*self._cell_records(), *self._claim_records()), _CSV_FIELDS)

    def render(self, format: str) -> str:
        """The table as "markdown", "latex", "csv" or "html"."""
        if format not in FORMATS:
            raise InputError(f"The format {format!r} is none of {', '.join(FORMATS)}.")
        return FORMATS[format](self)

    def _cell_records(self) -> Iterator[dict[str, object]]:
        for row in self.rows:
            named = {key: getattr(row.spec, key) for key in ("label", "backbone", "benchmark", "split")}
            for metric, estimate in row.estimates.items():
                comparison = row.comparisons[metric]
                yield {
                    "kind": "cell",
                    "row": row.spec.name,
                    **named,
                    "metric": metric,
                    **(asdict(estimate) if estimate is not None else {}),
                    **_server_fields(row.server.get(metric)),
                    **asdict(comparison),
                    "mark": row.spec.mark if comparison.paper is not None else None,
                    "reason": row.reason,
                }

    def _claim_records(self) -> Iterator[dict[str, object]]:
        for answer in self.claims:
            yield {
                "kind": "claim",
                **asdict(answer.claim),
                **(asdict(answer.difference) if answer.difference is not None else {}),
                **{key: getattr(answer, key) for key in ("p", "p_holm", "seeds_in_favour", "verdict")},
            }

    def __repr__(self) -> str:
        """One line: how many cells there are, and how many claims hold."""
        wanted = sum(len(self.spec.seeds_of(row)) for row in self.spec.rows)
        held = sum(answer.verdict == "holds" for answer in self.claims)
        claims = f", {held} of {len(self.claims)} claims hold" if self.claims else ""
        return f"Table({self.spec.name}: {len(self.records)} of {wanted} cells{claims})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return self.to_html()


def _server_fields(score: ServerValue | None) -> dict[str, object]:
    """A server's value with its day in the column "server"; it has no interval."""
    return {} if score is None else {"value": score.value, "server": score.day}


FORMATS: Final[Mapping[str, Callable[[Table], str]]] = {
    "markdown": Table.to_markdown,
    "latex": Table.to_latex,
    "csv": Table.to_csv,
    "html": Table.to_html,
}
