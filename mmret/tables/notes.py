"""What a reader must know beside a table's numbers: how they were made, chosen and judged."""

from collections.abc import Callable, Iterator, Sequence

from mmret.tables.grids import points
from mmret.tables.spec import MARKS, Settings, TableSpec
from mmret.tables.summary import SIGNIFICANCE, ClaimResult, RowResult


def table_notes(spec: TableSpec, rows: Sequence[RowResult], claims: Sequence[ClaimResult]) -> tuple[str, ...]:
    """What a reader must know beside the numbers, one sentence or two each."""
    return (
        "Metrics × 100; in brackets 95 % bootstrap intervals over training seeds and reference images (or queries, "
        "where they have none).",
        *_legend(spec, rows, claims),
        *_grouped(rows, _size),
        *_grouped(rows, _protocol),
        *_grouped(rows, _pdv),
        *_grouped(rows, _scoring),
        *_missing(rows),
        *_server(rows),
        *_remarks(rows),
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
    if any(answer.claim.margin for answer in claims):
        yield "“At most m below” is tested with m points added to the difference (non-inferiority)."


def _server(rows: Sequence[RowResult]) -> Iterator[str]:
    """Where the files for evaluation servers lie, and what imported scores are."""
    for row in rows:
        if row.submitted and set(row.server) != set(row.spec.metrics):
            files = ", ".join(name for record in row.records for name in record.outcome.submission)
            yield (
                f"{row.spec.title}: the ground truth is not public; {files} "
                f"await the server of {row.spec.benchmark} (import its score with --import-scores {row.spec.name})."
            )
    if any(row.server for row in rows):
        yield "“server”: as the benchmark's evaluation server gave it on that day for our files; it has no interval."


def _remarks(rows: Sequence[RowResult]) -> Iterator[str]:
    """The rows' own notes; one that holds for a method on several benchmarks stands once."""
    yield from dict.fromkeys(f"{row.spec.label}: {row.spec.note}" for row in rows if row.spec.note)


def _missing(rows: Sequence[RowResult]) -> Iterator[str]:
    """The reasons why cells are missing, each with the rows of a benchmark that share it."""
    groups: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.reason:
            place = f"{row.spec.benchmark}: " if row.spec.section else ""
            groups.setdefault((place, row.reason), []).append(row.spec.label)
    for (place, reason), labels in groups.items():
        everywhere = len(labels) == sum(row.spec.benchmark == place[:-2] for row in rows)
        yield f"{place}{'every row' if everywhere else '; '.join(labels)}: not run: {reason}"


def _grouped(rows: Sequence[RowResult], describe: Callable[[RowResult], str]) -> Iterator[str]:
    """A description with the rows that share it; the rows are not listed when all of them do."""
    groups: dict[str, list[RowResult]] = {}
    run = [row for row in rows if row.records]
    for row in run:
        groups.setdefault(describe(row), []).append(row)
    for text, sharing in groups.items():
        others = [row for row in run if describe(row) != text]
        if text:
            yield f"{_listed(sharing, others)}: {text}" if others else text


def _listed(rows: Sequence[RowResult], others: Sequence[RowResult]) -> str:
    """The rows of a table that are not the others, by their titles; all those of a section by its name."""
    if len(rows) > len(others):
        return f"All rows but {_listed(others, rows)}"
    mixed = {row.spec.section for row in others} | {""}
    names = [row.spec.title if row.spec.section in mixed else row.spec.section for row in rows]
    return "; ".join(dict.fromkeys(names))


def _size(row: RowResult) -> str:
    """The benchmark as it was run, and how many queries and resampled references stand behind a number."""
    record = row.records[0]
    benchmark, outcome = record.description["benchmark"], record.outcome
    name = " ".join(benchmark[key] for key in ("name", "version", "split"))
    references, queries = set(outcome.references), outcome.query_ids
    # A query without a reference image stands for itself.
    behind = "" if references == set(queries) else f" from {len(references):,} reference images"
    return f"{name}: {len(queries):,} queries{behind}."


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
