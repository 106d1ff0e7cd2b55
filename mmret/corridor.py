"""The corridor of composed retrieval: a benchmark's queries composed, searched as its protocol says, evaluated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from torch import Tensor

from mmret.backbones.base import Backbone
from mmret.composition import ComposedFeatures, Composer
from mmret.composition.scores import (
    Composed,
    Gallery,
    Integers,
    NeedsGallery,
    ScoreBlock,
    Scored,
    Settled,
    columns,
    concatenate,
)
from mmret.composition.scoring import Transform
from mmret.data.benchmark import Benchmark
from mmret.encoded_benchmark import EncodedBenchmark, Vectors
from mmret.errors import InputError
from mmret.judging import evaluate_run, run_depth
from mmret.retrieval.evaluate import Evaluation
from mmret.retrieval.index import Index
from mmret.retrieval.maxsim import MultiVectorIndex
from mmret.retrieval.refine import break_ties
from mmret.retrieval.run import Run
from mmret.retrieval.scored_search import search_scores
from mmret.retrieval.search import search

_QUERIES_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Ranked:
    """What an experiment gives: the run, the run over each query's subset where there are any, and the evaluation.

    The evaluation is of no query and no metric where the ground truth is not public.
    """

    run: Run
    subset_run: Run | None
    evaluation: Evaluation


def compose(backbone: Backbone, encoded: EncodedBenchmark, composer: Composer) -> Settled:
    """The features of all queries, in the benchmark's order, settled in its gallery where the method needs that.

    Raises:
        InputError: Queries have no reference image, and the composer needs one.
    """
    total = len(encoded.benchmark.queries)
    starts = range(0, total, _QUERIES_AT_ONCE)
    with backbone.cuts_told_once():
        parts = [
            composer(backbone, encoded.batch(range(s, min(s + _QUERIES_AT_ONCE, total)))) for s in starts
        ]
    features = concatenate(parts)
    _refuse_text_queries(features, encoded.benchmark, composer)
    return features.settle(encoded) if isinstance(features, NeedsGallery) else features


def _refuse_text_queries(features: Composed, benchmark: Benchmark, composer: Composer) -> None:
    """A text query's reference has NaN for its features; where these were used, the composer needs a reference."""
    for column in columns(features).values():
        for row in column.flatten(1).isnan().any(dim=1).nonzero().flatten().tolist():
            query = benchmark.queries[row]
            if query.reference is None:
                raise InputError(
                    f"Query {query.id!r} has no reference image, so {composer.name} has nothing to compose: "
                    "use text-only."
                )


def query_vectors(features: Settled, transform: Transform | None = None) -> Vectors | Scored:
    """What is searched with: query vectors float32 [Q, D], or what scores similarities.

    They are the transform's (PDV's, a scoring's), or else the base method's: the composed text, a baseline's only
    vector, the scores of a method that has nothing else.
    """
    queries = features if transform is None else transform(features)
    if isinstance(queries, ComposedFeatures):
        queries = queries.composed_text
    return queries.detach().float().cpu().numpy() if isinstance(queries, Tensor) else queries


def rank_queries(queries: Vectors | Scored, encoded: EncodedBenchmark, depth: int | None = None) -> Ranked:
    """Search what the benchmark's protocol says, the subsets of its queries as well, and evaluate with its metrics.

    `depth` is that of the run, by default `run_depth`'s.
    """
    benchmark, ids = encoded.benchmark, encoded.query_ids
    depth = run_depth(benchmark) if depth is None else depth
    pools = benchmark.searched_pools
    run = _search(
        encoded.searched, queries, ids, range(len(ids)), depth, exclude=benchmark.exclusions, pools=pools
    )
    run = break_ties(run, benchmark.judgements, benchmark.protocol.tie_break)
    subset_run = None
    if benchmark.pools and pools is None:
        chosen = [row for row, name in enumerate(ids) if name in benchmark.pools]
        subset_run = _search(encoded.searched, queries, ids, chosen, depth, pools=benchmark.pools)
    return Ranked(run, subset_run, evaluate_run(run, benchmark, subset_run))


def _search(
    index: Index | MultiVectorIndex,
    queries: Vectors | Scored,
    ids: Sequence[str],
    chosen: Sequence[int],
    depth: int,
    exclude: Mapping[str, Sequence[str]] | None = None,
    pools: Mapping[str, Sequence[str]] | None = None,
) -> Run:
    """The run of the chosen queries, by position."""
    names = [ids[row] for row in chosen]
    if isinstance(queries, np.ndarray):
        assert isinstance(index, Index), "composers refuse backbones of several vectors"
        return search(index, names, queries[list(chosen)], depth, exclude=exclude, pools=pools)
    # What several vectors a document are scored by is known to the queries; the protocol speaks of one.
    scores = _of(queries.scores(cast(Gallery, index)), np.array(chosen))
    return search_scores(index, names, scores, depth, exclude=exclude, pools=pools)


def _of(scores: ScoreBlock, chosen: Integers) -> ScoreBlock:
    """The scores of some queries, counted among these."""
    return lambda queries, rows: scores(chosen[queries], rows)
