"""Scoring finished runs, whoever made them, by the conventions of a benchmark; no images are needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmret.data.benchmark import Benchmark
from mmret.errors import InputError
from mmret.judging import evaluate_run
from mmret.retrieval.evaluate import Evaluation
from mmret.retrieval.metrics import metric
from mmret.retrieval.refine import break_ties, filtered, holds_pools
from mmret.retrieval.run import Run
from mmret.server_files import Submission, read_submission

Means = Mapping[str, float]


@dataclass(frozen=True)
class Score:
    """What a run is worth on a benchmark; all values from 0 to 1.

    Attributes:
        evaluation: Values per query and their means.
        averages: Name → mean of several of the means (`Benchmark.averages`).
        groups: Attribute → its value → means over the queries that have it.
        notes: A sentence for each thing that a reader should know: metrics left out, missing queries.
    """

    evaluation: Evaluation
    averages: Means
    groups: Mapping[str, Mapping[str, Means]]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values in full precision."""
        return {
            "queries": len(self.evaluation.query_ids),
            "means": dict(self.evaluation.means),
            "averages": dict(self.averages),
            "groups": {
                name: {key: dict(means) for key, means in group.items()}
                for name, group in self.groups.items()
            },
            "notes": list(self.notes),
        }


def read_any_run(path: str | Path, benchmark: Benchmark) -> Submission:
    """Read a run of ours (.npz), a server file of the benchmark (.json) or a TREC run (any other name)."""
    path = Path(path)
    if path.suffix == ".npz":
        return Submission("gallery", Run.load(path))
    if path.suffix == ".json":
        return read_submission(path, benchmark)
    return Submission("gallery", Run.read_trec(path))


def score(
    benchmark: Benchmark,
    run: Run | None,
    subset_run: Run | None = None,
    metrics: Sequence[str] | None = None,
) -> Score:
    """Score a run, or one over the queries' subsets, or both.

    What the protocol says is applied: references that it removes are taken out, pools bound what counts, ties are
    broken as it says. A metric for which a run is missing or not deep enough is left out, with a note.

    Args:
        benchmark: With judgements.
        run: Over the gallery.
        subset_run: Over each query's subset; follows from `run` where that ranks all subsets whole.
        metrics: By default the benchmark's.

    Raises:
        InputError: No public ground truth, no query of the run is the benchmark's, or no metric can be computed.
    """
    _refuse_unjudged(benchmark)
    notes: list[str] = []
    run = _by_protocol(run, benchmark, notes, "The run")
    subset_run = _by_protocol(subset_run, benchmark, notes, "The run over subsets", subset=True)
    if subset_run is None and run is not None and benchmark.pools and holds_pools(run, benchmark.pools):
        subset_run = filtered(run, pools=benchmark.pools)
    wanted = _computable(metrics or benchmark.metrics, run, subset_run, notes)
    main = run if run is not None else subset_run
    assert main is not None, "without runs no metric can be computed"
    evaluation = evaluate_run(main, benchmark, subset_run, wanted)
    return Score(
        evaluation, _averages(benchmark, evaluation.means), _groups(benchmark, evaluation), tuple(notes)
    )


def _refuse_unjudged(benchmark: Benchmark) -> None:
    if not benchmark.is_judged:
        raise InputError(
            f"The ground truth of {benchmark.name} {benchmark.split} is not public: write the server's files with "
            "--server-files FOLDER, and send them in."
        )


def _by_protocol(
    run: Run | None, benchmark: Benchmark, notes: list[str], name: str, *, subset: bool = False
) -> Run | None:
    """The run as the protocol has it, with notes on what had to be changed."""
    if run is None:
        return None
    _note_queries(run, benchmark, notes, name)
    bounded = subset or benchmark.searched_pools is not None
    kept = filtered(run, exclude=benchmark.exclusions, pools=benchmark.pools if bounded else None)
    dropped = int((run.indices >= 0).sum() - (kept.indices >= 0).sum())
    if dropped:
        notes.append(f"{name} ranks {dropped:,} images that the protocol leaves out; they were taken out.")
    return break_ties(kept, benchmark.judgements, benchmark.protocol.tie_break)


def _note_queries(run: Run, benchmark: Benchmark, notes: list[str], name: str) -> None:
    asked = {query.id for query in benchmark.queries}
    known = sum(query in asked for query in run.query_ids)
    if not known:
        first = next(iter(run.query_ids), "")
        raise InputError(
            f"{name} has no query of {benchmark.name} {benchmark.split}; its first is {first!r}."
        )
    if known < len(asked):
        notes.append(f"{name} lacks {len(asked) - known:,} of {len(asked):,} queries; they count 0.")
    if known < len(run):
        notes.append(
            f"{name} has {len(run) - known:,} queries that are not the benchmark's; they do not count."
        )


def _computable(
    metrics: Sequence[str], run: Run | None, subset_run: Run | None, notes: list[str]
) -> list[str]:
    """The metrics for which there is a run that is deep enough; a note for each of the others."""
    wanted = []
    for each in map(metric, metrics):
        used = subset_run if each.subset else run
        if used is None:
            notes.append(
                f"{each} is left out: there is no run over {'the subsets' if each.subset else 'the gallery'}."
            )
        elif used.depth < each.k:
            notes.append(f"{each} is left out: the run keeps {used.depth} ranks.")
        else:
            wanted.append(str(each))
    if not wanted:
        raise InputError(f"None of the metrics can be computed: {' '.join(notes)}")
    return wanted


def _averages(benchmark: Benchmark, means: Means) -> dict[str, float]:
    return {
        f"mean of {' and '.join(names)}": float(np.mean([means[name] for name in names]))
        for names in benchmark.averages
        if set(names) <= set(means)
    }


def _groups(benchmark: Benchmark, evaluation: Evaluation) -> dict[str, dict[str, Means]]:
    """The means over the judged queries of each value of each attribute."""
    rows: dict[str, dict[str, list[int]]] = {}
    attributes = {query.id: query.attributes for query in benchmark.queries}
    for row, query in enumerate(evaluation.query_ids):
        for name, value in attributes[query].items():
            for each in (value,) if isinstance(value, str) else value:
                rows.setdefault(name, {}).setdefault(each, []).append(row)
    return {
        name: {
            value: {key: float(np.mean(values[own])) for key, values in evaluation.per_query.items()}
            for value, own in group.items()
        }
        for name, group in rows.items()
    }
