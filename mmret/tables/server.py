"""Scores of an evaluation server: for splits whose ground truth is not public (CIRR test1, CIRCO test).

A cell on such a split leaves files for the server, and awaits its score. The score is imported once the server
has given it, and kept beside the cell with its date and the digests of the files that it belongs to: if the cell
is run again and its files change, the score no longer counts.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from mmret.atomic import write_text
from mmret.data import records
from mmret.errors import InputError
from mmret.tables.cells import CellRecord, CellRequest
from mmret.tables.measures import components

_SPELLINGS: Final = {
    "map@": "map@{k} (÷ min)",
    "recall@": "success@{k}",
    "recall_subset@": "success_subset@{k}",
}
"""How CIRCO (mAP@5) and CIRR (Recall@5, Recall_subset@1) call their metrics, and how they are called here."""

_KEYS: Final = ("date", "unit", "scores")
_UNITS: Final = {"points": 1.0, "fraction": 100.0}


@dataclass(frozen=True)
class ServerScores:
    """What a benchmark's server gave for a cell.

    Attributes:
        scores: Metric → points (× 100).
        dates: Metric → the day of its score, ISO 8601.
        submission: The files that were sent, name → SHA-256.
        imported: When the last score was imported (ISO 8601, UTC).
    """

    scores: Mapping[str, float]
    dates: Mapping[str, str]
    submission: Mapping[str, str]
    imported: str

    def value(self, name: str) -> float | None:
        """A column's value in points, also of a mean of metrics; None until all it needs is there."""
        found = [self.scores.get(part) for part in components(name)]
        known = [score for score in found if score is not None]
        return sum(known) / len(known) if len(known) == len(found) else None

    def day(self, name: str) -> str:
        """The latest day of a column's scores; "" where there is none."""
        return max((self.dates.get(part, "") for part in components(name)), default="")


def scores_path(request: CellRequest) -> Path:
    """The file of a cell's scores, beside its record."""
    return request.path.with_suffix(".server.json")


def load_scores(request: CellRequest, record: CellRecord) -> ServerScores | None:
    """The scores of the record's submission; None without any, or where they belong to other files.

    Raises:
        InputError: The file of the scores is damaged.
    """
    path = scores_path(request)
    if not path.is_file():
        return None
    content = records.read_json(path)
    if not isinstance(content, dict) or set(content) != set(ServerScores.__dataclass_fields__):
        raise InputError(f"{path} does not hold imported scores; delete it and import them again.")
    stored = ServerScores(**content)
    return stored if stored.submission == record.outcome.submission else None


def import_scores(request: CellRequest, source: str | Path, scored_on: str | None = None) -> ServerScores:
    """Store what a server gave for a cell's submission; scores imported before stay, unless given again.

    Args:
        request: The cell; it must have been run.
        source: JSON: `{"scores": {metric: number}, "date": "2026-01-31", "unit": "points"}`, or the mapping of
            metrics alone. Metrics are called as here, or as CIRCO and CIRR call them ("mAP@5", "Recall@1",
            "Recall_subset@1"). The unit is "points" (9.35) or "fraction" (0.0935), points by default.
        scored_on: The day of the scores; by default the file's, else today.

    Raises:
        InputError: The cell has no submission, or the file is malformed, names a metric that the row does not
            have, or holds a value that cannot be one; nothing is stored then.
    """
    record = _submitted(request)
    content, where = records.read_json(source), str(source)
    scores = _parse_scores(content, request, where)
    day = _parse_day(scored_on or (content.get("date") if "scores" in content else None), where)
    before = load_scores(request, record)
    known = (before.scores, before.dates) if before is not None else ({}, {})
    merged = ServerScores(
        {**known[0], **scores},
        {**known[1], **dict.fromkeys(scores, day)},
        record.outcome.submission,
        datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_text(scores_path(request), json.dumps(asdict(merged), indent=1, ensure_ascii=False) + "\n")
    return merged


def _submitted(request: CellRequest) -> CellRecord:
    """The cell's record; InputError where it holds no files for a server."""
    if not request.path.is_file():
        raise InputError(
            f"Row {request.row} has not been run as the table stands now, so no score belongs to it."
        )
    record = CellRecord.load(request.path)
    if not record.outcome.submission:
        raise InputError(
            f"Row {request.row} has its own numbers: the ground truth of {request.benchmark} {request.split} "
            "is public, and no server's score is needed."
        )
    return record


def _parse_scores(content: object, request: CellRequest, where: str) -> dict[str, float]:
    """Metric → points."""
    if not isinstance(content, dict):
        raise InputError(f"{where} holds a {type(content).__name__} where a mapping of metrics is needed.")
    named = records.field(content, "scores", dict, where) if "scores" in content else content
    unknown = [key for key in content if "scores" in content and key not in _KEYS]
    if unknown or not named:
        raise InputError(f"{where} has {unknown or 'no scores'}; known keys are {', '.join(_KEYS)}.")
    found = {_our_name(str(key), request.metrics): _number(value, key, where) for key, value in named.items()}
    strangers = [name for name in found if name not in request.metrics]
    if strangers:
        raise InputError(
            f"{where} scores {strangers[0]!r}; row {request.row} has {', '.join(request.metrics)}."
        )
    unit = content.get("unit") if "scores" in content else None
    return _to_points(found, unit, where)


def _our_name(name: str, known: Sequence[str]) -> str:
    """A metric's name as it is here: a name of the row's own stands for itself, others are a server's."""
    if name.strip() in known:
        return name.strip()
    parts = re.fullmatch(r"([a-z_]+@)([1-9][0-9]*)", name.strip().lower())
    pattern = _SPELLINGS.get(parts[1]) if parts else None
    return name.strip() if parts is None or pattern is None else pattern.format(k=parts[2])


def _number(value: Any, key: object, where: str) -> float:
    # Written so that NaN fails too.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise InputError(f"{where}: the score of {key} is {value!r}, where a number from 0 to 100 is needed.")
    return float(value)


def _to_points(scores: Mapping[str, float], unit: object, where: str) -> dict[str, float]:
    """The scores × 100; a file whose numbers all look like fractions must say its unit."""
    if unit is not None and unit not in _UNITS:
        raise InputError(f"{where}: the unit {unit!r} is none of {', '.join(_UNITS)}.")
    small = max(scores.values()) <= 1
    if (unit is None and small) or (unit == "fraction" and not small):
        raise InputError(
            f"{where}: it is not clear whether its numbers are points or fractions; wrap them as "
            '{"unit": "points" or "fraction", "scores": {…}}.'
        )
    return {name: round(value * _UNITS[str(unit or "points")], 9) for name, value in scores.items()}


def _parse_day(value: object, where: str) -> str:
    if value is None:
        return datetime.now(UTC).date().isoformat()
    try:
        return date.fromisoformat(str(value)).isoformat()
    except ValueError:
        raise InputError(f"{where}: the date {value!r} is no day such as 2026-01-31.") from None
