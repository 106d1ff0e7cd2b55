"""A run judged by what its benchmark knows: targets, answers, or both."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from tqdm import tqdm

from mmret.data.answers import answer_forms, matching_form
from mmret.data.benchmark import Benchmark
from mmret.data.text_sources import TextSource
from mmret.errors import InputError
from mmret.retrieval.evaluate import Evaluation, evaluate
from mmret.retrieval.metrics import metric
from mmret.retrieval.run import Run

DEPTH: Final = 50
"""Ranks kept of each query: what CIRCO's and CIRR's servers take."""

_PROGRESS_AFTER_S: Final = 5.0


def run_depth(benchmark: Benchmark) -> int:
    """How deep a run of the benchmark must be: `DEPTH`, or deeper where a metric looks deeper."""
    return max([DEPTH, *(metric(name).k for name in benchmark.metrics)])


def evaluate_run(
    run: Run,
    benchmark: Benchmark,
    subset_run: Run | None = None,
    metrics: Sequence[str] | None = None,
    texts: TextSource | None = None,
) -> Evaluation:
    """Evaluate a run; of no query and no metric where the ground truth is not public.

    Args:
        run: Over the gallery.
        benchmark: Whose targets and answers count.
        subset_run: Over each query's own pool, for the metrics that look at these.
        metrics: By default the benchmark's.
        texts: Of the gallery, where answers are looked for; by default the benchmark's own.

    Raises:
        InputError: As `evaluate` and `answer_texts`.
    """
    names = benchmark.metrics if metrics is None else metrics
    looked_through = answer_texts(benchmark, names, texts)
    if not benchmark.is_judged:
        return Evaluation((), {}, {}, ties=run.ties, missing=0, unreachable=0)
    answered = None
    if looked_through is not None:
        deepest = max(each.k for each in map(metric, names) if each.answers)
        answered = judge_answers(run, benchmark.answers, looked_through, deepest)
    return evaluate(run, benchmark.judgements, names, subset_run=subset_run, answered=answered)


def answer_texts(
    benchmark: Benchmark, metrics: Sequence[str], texts: TextSource | None = None
) -> TextSource | None:
    """The texts that these metrics look for answers in (`texts`, or else the benchmark's), or None: they look for none.

    Raises:
        InputError: They look for answers, and no query has one, or there are no texts.
    """
    looking = [name for name in metrics if metric(name).answers]
    if not looking:
        return None
    place = f"{benchmark.name} {benchmark.split}"
    if not benchmark.answers:
        raise InputError(
            f"{place} has no answers, which {looking[0]} looks for in pages: fetch the questions with their answers, "
            "or take a metric of judged pages, such as recall@10."
        )
    found = texts or benchmark.page_texts
    if found is None:
        raise InputError(f"{place} has no texts to look for answers in; `mmret pages text` makes them.")
    return found


def judge_answers(
    run: Run, answers: Mapping[str, Sequence[str]], texts: TextSource, depth: int
) -> dict[str, dict[str, int]]:
    """Query id → the documents among its first `depth` that hold an answer; every query with answers has an entry.

    Each document's text is read and cut into words once, whoever ranks it; texts pass through one by one.

    Raises:
        InputError: A ranked document has no text.
    """
    forms = {query: answer_forms(own) for query, own in answers.items()}
    askers = _askers(run, forms, depth)
    found: dict[str, dict[str, int]] = {query: {} for query in answers}
    unread = set(askers)
    read = tqdm(
        texts.read(askers.keys()), desc="matching answers", total=len(askers), delay=_PROGRESS_AFTER_S
    )
    for document, text in read:
        unread.discard(document)
        form = matching_form(text)
        for query in askers[document]:
            if any(answer in form for answer in forms[query]):
                found[query][document] = 1
    if unread:
        raise InputError(
            f"{len(unread):,} ranked documents have no text to look for answers in, first {min(unread)!r}."
        )
    return found


def _askers(run: Run, queries: Mapping[str, object], depth: int) -> dict[str, list[str]]:
    """Document id → the queries that rank it among their first `depth`."""
    askers: dict[str, list[str]] = defaultdict(list)
    for query, row in run.rows.items():
        if query in queries:
            for place in run.indices[row, :depth]:
                if place >= 0:
                    askers[run.document_ids[place]].append(query)
    return dict(askers)
