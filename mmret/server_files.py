"""The files that CIRR's and CIRCO's evaluation servers take: written from a run, validated, and read back.

CIRR takes two files, of 50 image names a query over the gallery and of 3 over each query's image set, both beside
`"version": "rc2"` and `"metric": "recall" | "recall_subset"`. CIRCO takes one, of 50 image numbers a query.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from mmret.atomic import write_text
from mmret.data import records
from mmret.data.benchmark import Benchmark
from mmret.errors import InputError
from mmret.retrieval.run import Run

Over = Literal["gallery", "subset"]

#: What CIRR's files say of themselves: version of the data, and the metric by what is ranked.
CIRR_VERSION: Final = "rc2"
CIRR_METRICS: Final[Mapping[Over, str]] = {"gallery": "recall", "subset": "recall_subset"}
#: Ranks a query, by benchmark and by what is ranked: the files that each server takes.
LENGTHS: Final[Mapping[str, Mapping[Over, int]]] = {
    "cirr": {"gallery": 50, "subset": 3},
    "circo": {"gallery": 50},
}
_NAMED_AT_MOST = 3


@dataclass(frozen=True)
class Submission:
    """A server file that was read: its run, and whether that ranks the gallery or each query's subset."""

    over: Over
    run: Run


def write_submissions(
    benchmark: Benchmark, run: Run, subset_run: Run | None, folder: str | Path, name: str
) -> list[Path]:
    """Write every file that the benchmark's server takes, `folder/name.METRIC.json`, each whole or not at all.

    Raises:
        InputError: The benchmark has no server, a run is missing, or a ranking is not what the server takes.
    """
    runs: dict[Over, Run | None] = {"gallery": run, "subset": subset_run}
    texts = {over: _text(benchmark, over, runs[over]) for over in _lengths(benchmark)}
    paths = [Path(folder) / f"{name}.{CIRR_METRICS[over]}.json" for over in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    return paths


def read_submission(path: str | Path, benchmark: Benchmark) -> Submission:
    """Read and validate a server file of the benchmark; its ranks become falling scores.

    Raises:
        InputError: The file is not one that the server takes; the sentence names the first faults.
    """
    content = _read_object(Path(path))
    over: Over = "gallery"
    if benchmark.name == "cirr":
        over = _cirr_header(content, str(path))
    if over not in _lengths(benchmark):
        raise InputError(f"{path} ranks subsets, which {benchmark.name} has none of.")
    rankings = {query: _names(images, query, str(path)) for query, images in content.items()}
    validate(rankings, benchmark, over, str(path))
    return Submission(over, _as_run(rankings, benchmark))


def validate(rankings: Mapping[str, Sequence[str]], benchmark: Benchmark, over: Over, where: str) -> None:
    """Raise one `InputError` that counts the faults of the rankings and names the first few."""
    faults = list(_faults(rankings, benchmark, over))
    if faults:
        more = f"; and {len(faults) - _NAMED_AT_MOST:,} more faults" if len(faults) > _NAMED_AT_MOST else ""
        raise InputError(
            f"{where} is no file for the server of {benchmark.name} {benchmark.split}: "
            f"{'; '.join(faults[:_NAMED_AT_MOST])}{more}."
        )


def _lengths(benchmark: Benchmark) -> Mapping[Over, int]:
    if benchmark.name not in LENGTHS:
        raise InputError(f"{benchmark.name} has no evaluation server; {' and '.join(LENGTHS)} have.")
    return LENGTHS[benchmark.name]


def _faults(rankings: Mapping[str, Sequence[str]], benchmark: Benchmark, over: Over) -> Iterator[str]:
    asked = {query.id for query in benchmark.queries}
    absent, strange = (
        [name for name in asked if name not in rankings],
        [q for q in rankings if q not in asked],
    )
    if absent:
        yield f"{len(absent):,} of {len(asked):,} queries are missing, such as {min(absent)!r}"
    if strange:
        yield f"{len(strange):,} queries are not the split's, such as {strange[0]!r}"
    gallery = frozenset(benchmark.gallery)
    for query in benchmark.queries:
        if query.id in rankings:
            pool = frozenset(benchmark.pools[query.id]) if over == "subset" else gallery
            yield from _ranking_faults(query.id, rankings[query.id], benchmark, over, pool)


def _ranking_faults(
    query: str, ranking: Sequence[str], benchmark: Benchmark, over: Over, pool: frozenset[str]
) -> Iterator[str]:
    excluded = benchmark.exclusions.get(query, ())
    # A trimmed gallery may hold fewer images than the server wants; an unknown one (no images) holds enough.
    wanted = _lengths(benchmark)[over]
    wanted = min(wanted, len(pool.difference(excluded))) if pool else wanted
    if len(ranking) != wanted:
        yield f"query {query!r} ranks {len(ranking)} images, not {wanted}"
    if len(set(ranking)) < len(ranking):
        twice = next(name for name in ranking if ranking.count(name) > 1)
        yield f"query {query!r} ranks image {twice!r} twice"
    if set(ranking).intersection(excluded):
        yield f"query {query!r} ranks its own reference image {excluded[0]!r}"
    strangers = [name for name in ranking if pool and name not in pool and name not in excluded]
    if strangers:
        place = "its image set" if over == "subset" else "the gallery"
        yield f"query {query!r} ranks {strangers[0]!r}, which is not in {place}"


def _text(benchmark: Benchmark, over: Over, run: Run | None) -> str:
    if run is None:
        raise InputError(
            f"The server of {benchmark.name} also takes a run over each query's {over}: give it."
        )
    length = _lengths(benchmark)[over]
    found = {
        query.id: [name for name, _ in run.ranking(query.id)][:length]
        for query in benchmark.queries
        if query.id in run.rows
    }
    validate(found, benchmark, over, f"The run over the {over}")
    if benchmark.name == "cirr":
        return json.dumps({"version": CIRR_VERSION, "metric": CIRR_METRICS[over], **found})
    return json.dumps({query: [int(name) for name in names] for query, names in found.items()})


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON object whose keys are unique (`json` alone would keep the last of a repeated one)."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise InputError(f"{path} holds query {twice!r} twice; keep one of its rankings.")
        return found

    try:
        content = json.loads(records.read_text(path), object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not valid JSON ({error}).") from None
    if not isinstance(content, dict):
        raise InputError(
            f"{path} holds a {type(content).__name__}, where an object query → images is needed."
        )
    return content


def _cirr_header(content: dict[str, Any], where: str) -> Over:
    """Take version and metric out of a CIRR file; what it ranks."""
    version, name = content.pop("version", None), content.pop("metric", None)
    if version != CIRR_VERSION:
        raise InputError(f'{where} says "version": {version!r}, where CIRR\'s server takes {CIRR_VERSION!r}.')
    for over, metric in CIRR_METRICS.items():
        if name == metric:
            return over
    raise InputError(f'{where} says "metric": {name!r}, where CIRR\'s server takes recall or recall_subset.')


def _names(images: object, query: str, where: str) -> list[str]:
    if not isinstance(images, list) or not all(type(image) in (str, int) for image in images):
        raise InputError(f"{where}: query {query!r} has {images!r}, where a list of images is needed.")
    return [str(image) for image in images]


def _as_run(rankings: Mapping[str, Sequence[str]], benchmark: Benchmark) -> Run:
    documents = benchmark.gallery or tuple(sorted({name for names in rankings.values() for name in names}))
    places = {name: place for place, name in enumerate(documents)}
    depth = max(map(len, rankings.values()))
    indices = np.full((len(rankings), depth), -1, dtype=np.int64)
    for row, names in enumerate(rankings.values()):
        indices[row, : len(names)] = [places[name] for name in names]
    falling = np.arange(depth, 0, -1, dtype=np.float32)
    return Run(tuple(rankings), documents, indices, np.where(indices >= 0, falling, np.float32(-np.inf)))
