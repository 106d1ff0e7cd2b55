"""TREC's run format: one line `query Q0 document rank score tag` a ranked document."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from mmret.atomic import atomic_write
from mmret.errors import InputError

_FIELDS = 6


def write_rankings(path: Path, rankings: Iterable[tuple[str, list[tuple[str, float]]]], tag: str) -> None:
    """Write (query, [(document, score), ...]) rankings; see `Run.write_trec`."""
    _refuse_white_space("tag", tag)
    with atomic_write(path) as handle:
        for query, ranking in rankings:
            handle.writelines(line.encode("utf-8", "surrogateescape") for line in _lines(query, ranking, tag))


def read_rankings(path: Path) -> dict[str, dict[str, float]]:
    """Scores, rounded to float32, by query and document; see `Run.read_trec`."""
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise InputError(f"{path} cannot be read as a TREC run ({error}): give a text file.") from error
    rankings: dict[str, dict[str, float]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        query, document, score = _parsed(line, f"line {number} of {path}")
        ranking = rankings.setdefault(query, {})
        if document in ranking:
            raise InputError(f"Line {number} of {path} ranks {document!r} for {query!r} again: delete one.")
        ranking[document] = score
    return rankings


def _lines(query: str, ranking: list[tuple[str, float]], tag: str) -> Iterator[str]:
    _refuse_white_space("query id", query)
    above = np.float32(np.inf)
    for place, (document, score) in enumerate(ranking, start=1):
        _refuse_white_space("document id", document)
        above = min(np.float32(score), np.nextafter(above, np.float32(-np.inf)))
        yield f"{query} Q0 {document} {place} {above:.9g} {tag}\n"  # 9 digits give a float32 back exactly


def _refuse_white_space(what: str, text: str) -> None:
    if not text or text.split() != [text]:
        raise InputError(
            f"The {what} {text!r} is empty or holds white space, which TREC's format cannot carry."
        )


def _parsed(line: str, where: str) -> tuple[str, str, float]:
    fields = line.split()
    if len(fields) != _FIELDS:
        raise InputError(f"There are {len(fields)} fields in {where}: TREC's format has {_FIELDS}.")
    try:
        score = float(np.float32(fields[4]))
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise InputError(f"The score {fields[4]!r} in {where} is no finite number: correct it.")
    return fields[0], fields[2], score
