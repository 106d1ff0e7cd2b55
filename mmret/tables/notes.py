"""What a reader must know beside a table's numbers: how they were made, chosen and judged."""

from collections.abc import Callable, Iterator, Sequence

from mmret.tables.grids import points
from mmret.tables.spec import MARKS, Settings, TableSpec
from mmret.tables.summary import SIGNIFICANCE, ClaimResult, RowResult


def table_notes(spec: TableSpec, rows: Sequence[RowResult], claims: Sequence[ClaimResult]) -> tuple[str, ...]:
    """What a reader must know beside the numbers, one sentence or two each."""
    return (
        "Metrics × 100; in brackets 95 % bootstrap intervals over training seeds and reference images.",
        *_legend(spec, rows, claims),
        *_grouped(rows, _size),
        *_grouped(rows, _protocol),
        *_grouped(rows, _pdv),
        *_grouped(rows, _scoring),
        *_missing(rows),
        *(f"{row.spec.label}: {row.spec.note}" for row in rows if row.spec.note),
        *spec.notes,
        *([f"Paper: {spec.source.paper} {spec.source.url}".strip()] if spec.source.paper else []),
    )


def _legend(spec: TableSpec, rows: Sequence[RowResult], claims: Sequence[ClaimResult]) -> Iterator[str]:
    marks = sorted({row.spec.mark for row in rows if row.spec.published})
    if marks:
        yield (
            f"Δ = ours − paper; it matches within {points(spec.tolerance)} points. "
            f"The paper's numbers are from {'; '.join(f'{mark}: {MARKS[mark]}' for mark in marks)}."
        )
    if claims:
        yield (
            f"A claim holds if its sign-flip p over reference images is below {SIGNIFICANCE} after Holm's "
            f"correction over the table's {len(claims)} claim(s), and the interval lies above zero."
        )


def _missing(rows: Sequence[RowResult]) -> Iterator[str]:
    """The reasons why cells are missing, each with the rows that share it."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        if row.reason:
            groups.setdefault(row.reason, []).append(row.spec.label)
    for reason, labels in groups.items():
        yield f"{', '.join(labels)}: not run: {reason}"


def _grouped(rows: Sequence[RowResult], describe: Callable[[RowResult], str]) -> Iterator[str]:
    """A description with the rows that share it; the rows are not listed when all of them do."""
    groups: dict[str, list[str]] = {}
    described = [(row.spec.label, describe(row)) for row in rows if row.records]
    for label, text in described:
        groups.setdefault(text, []).append(label)
    for text, labels in groups.items():
        if text:
            yield text if len(labels) == len(described) else f"{', '.join(labels)}: {text}"


def _size(row: RowResult) -> str:
    """The benchmark as it was run, and how many queries and resampled references stand behind a number."""
    record, size = row.records[0], next(item for item in row.estimates.values() if item is not None)
    benchmark = record.description["benchmark"]
    name = " ".join(benchmark[key] for key in ("name", "version", "split"))
    return f"{name}: {size.queries:,} queries from {size.references:,} reference images."


def _protocol(row: RowResult) -> str:
    return f"Protocol: {_settings(row.records[0].outcome.protocol)}."


def _pdv(row: RowResult) -> str:
    """The PDV settings of a row, each with its seeds where they differ."""
    seeds: dict[str, list[str]] = {}
    for record in row.records:
        if record.outcome.pdv:
            seeds.setdefault(_settings(record.outcome.pdv), []).append(str(record.seed))
    if len(seeds) < 2:
        return "".join(f"PDV: {text}." for text in seeds)
    texts = [f"{text} (seed {', '.join(found)})" for text, found in seeds.items()]
    return f"PDV: {'; '.join(texts)}."


def _scoring(row: RowResult) -> str:
    """How similarities were scored; "" for a row whose queries are vectors."""
    scoring = row.records[0].description.get("scoring")
    if scoring is None:
        return ""
    return f"Scoring: {scoring if isinstance(scoring, str) else _settings(scoring)}."


def _settings(settings: Settings) -> str:
    return ", ".join(f"{key} {_value(value)}" for key, value in settings.items())


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
