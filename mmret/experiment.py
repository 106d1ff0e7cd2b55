"""One experiment, from names to numbers: backbone × composer × benchmark → run → evaluation.

The gallery is embedded once per backbone, preprocessing and benchmark, in a store that every row, seed and sweep of
a table shares. `run_cell` is what a table calls for each of its missing cells.
"""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmret.backbones import load_backbone
from mmret.backbones.base import Backbone
from mmret.composition import PDV, ComposedFeatures, Composer, composer_from_spec, concatenate
from mmret.composition.grid import GRIDS
from mmret.composition.selection import SweepResult, select
from mmret.composition.sweep import QueryRankings, sweep
from mmret.data import load_benchmark
from mmret.data.benchmark import Benchmark
from mmret.encoded_benchmark import EncodedBenchmark, Vectors, encode_benchmark
from mmret.errors import InputError
from mmret.name_lookup import name_lookup
from mmret.retrieval.evaluate import Evaluation, evaluate
from mmret.retrieval.metrics import Relevance, metric
from mmret.retrieval.refine import break_ties
from mmret.retrieval.run import Run
from mmret.retrieval.search import search
from mmret.server_files import write_submissions
from mmret.tables.cells import CellOutcome, CellRequest, file_digest

__all__ = [
    "CellOutcome",
    "EncodedBenchmark",
    "Ranked",
    "compose",
    "encode_benchmark",
    "query_vectors",
    "rank_queries",
    "run_cell",
    "select_pdv",
    "train_phi",
]

#: Ranks kept of each query: what CIRCO's and CIRR's servers take.
DEPTH = 50
#: The method of a table's row that ranks by exact names (`mmret.name_lookup`) instead of vectors.
NAME_LOOKUP = "name-lookup"
_QUERIES_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Ranked:
    """What an experiment gives: the run, the run over each query's subset where there are any, and the evaluation.

    The evaluation is of no query and no metric where the ground truth is not public.
    """

    run: Run
    subset_run: Run | None
    evaluation: Evaluation


def compose(backbone: Backbone, encoded: EncodedBenchmark, composer: Composer) -> ComposedFeatures | Tensor:
    """The features of all queries, [Q, D] each, in the benchmark's order.

    Raises:
        InputError: Queries have no reference image, and the composer needs one.
    """
    total = len(encoded.benchmark.queries)
    starts = range(0, total, _QUERIES_AT_ONCE)
    with backbone.cuts_told_once():
        parts = [
            composer(backbone, encoded.batch(range(s, min(s + _QUERIES_AT_ONCE, total)))) for s in starts
        ]
    composed = [part for part in parts if isinstance(part, ComposedFeatures)]
    if composed:
        features: ComposedFeatures | Tensor = concatenate(composed)
    else:
        features = torch.cat([part for part in parts if isinstance(part, Tensor)])
    _refuse_text_queries(features, encoded.benchmark, composer)
    return features


def _refuse_text_queries(
    features: ComposedFeatures | Tensor, benchmark: Benchmark, composer: Composer
) -> None:
    used = features.reference_image if isinstance(features, ComposedFeatures) else features
    for row in used.isnan().any(dim=-1).nonzero().flatten().tolist():
        query = benchmark.queries[row]
        if query.reference is None:
            raise InputError(
                f"Query {query.id!r} has no reference image, so {composer.name} has nothing to compose: use text-only."
            )


def query_vectors(features: ComposedFeatures | Tensor, pdv: PDV | None = None) -> Vectors:
    """Query vectors float32 [Q, D]: PDV's, or the base method's (the composed text; a baseline's only vector)."""
    if pdv is not None:
        vectors = pdv(features)
    else:
        vectors = features.composed_text if isinstance(features, ComposedFeatures) else features
    return vectors.detach().float().cpu().numpy()


def rank_queries(vectors: Vectors, encoded: EncodedBenchmark, depth: int = DEPTH) -> Ranked:
    """Search what the benchmark's protocol says, the subsets of its queries as well, and evaluate with its metrics."""
    benchmark, ids = encoded.benchmark, [query.id for query in encoded.benchmark.queries]
    run = search(
        encoded.index, ids, vectors, depth, exclude=benchmark.exclusions, pools=searched_pools(benchmark)
    )
    run = break_ties(run, benchmark.judgements, benchmark.protocol.tie_break)
    subset_run = None
    if benchmark.pools and searched_pools(benchmark) is None:
        chosen = [row for row, name in enumerate(ids) if name in benchmark.pools]
        pooled = [ids[row] for row in chosen]
        subset_run = search(encoded.index, pooled, vectors[chosen], depth, pools=benchmark.pools)
    return Ranked(run, subset_run, _evaluated(run, benchmark, subset_run))


def searched_pools(benchmark: Benchmark) -> Mapping[str, Sequence[str]] | None:
    """Each query's own candidates where the protocol searches these, else None: the whole gallery."""
    return benchmark.pools if benchmark.protocol.gallery == "pool" else None


def _evaluated(run: Run, benchmark: Benchmark, subset_run: Run | None = None) -> Evaluation:
    if not benchmark.judgements:
        return Evaluation((), {}, {}, ties=run.ties, missing=0, unreachable=0)
    return evaluate(run, benchmark.judgements, benchmark.metrics, subset_run=subset_run)


def select_pdv(
    features: ComposedFeatures,
    encoded: EncodedBenchmark,
    settings: Mapping[str, Any],
    reported_on: tuple[str, str],
) -> SweepResult:
    """Sweep PDV over a benchmark split and choose the best setting, to be reported on another split.

    `settings`: `metric` (by default the benchmark's headline) and `grid`, a name of `mmret.composition.grid.GRIDS`.
    """
    benchmark = encoded.benchmark
    name = str(settings.get("metric", benchmark.metrics[0]))
    grid = str(settings.get("grid", "paper"))
    if grid not in GRIDS:
        raise InputError(f"There is no grid of PDV settings {grid!r}; there are {', '.join(GRIDS)}.")
    ids = [query.id for query in benchmark.queries]
    sweeping = sweep(
        encoded.index,
        ids,
        features,
        GRIDS[grid],
        metric(name).k,
        exclude=benchmark.exclusions,
        pools=searched_pools(benchmark),
    )
    split = (benchmark.name, benchmark.split)
    return select(sweeping, name, _measure(encoded, name), selected_on=split, reported_on=reported_on)


def _measure(encoded: EncodedBenchmark, name: str) -> Callable[[QueryRankings], NDArray[np.float64]]:
    """The metric of one query's rankings under S settings, [S]."""
    wanted, judgements, positions = metric(name), encoded.benchmark.judgements, encoded.index.positions

    def measure(rankings: QueryRankings) -> NDArray[np.float64]:
        judged = judgements[rankings.query_id]
        gains = np.zeros(len(encoded.index) + 1, dtype=np.int64)  # the last place is that of padding, -1
        for document, gain in judged.items():
            gains[positions[document]] = gain
        settings = len(rankings.indices)
        ideal = np.tile(np.sort(list(judged.values()))[::-1], (settings, 1))
        return wanted(Relevance(gains[rankings.indices], ideal, np.full(settings, len(judged))))

    return measure


def run_cell(request: CellRequest) -> CellOutcome:
    """Run one cell of a table: train φ if the row trains, encode, compose, choose PDV, search, evaluate.

    Where the ground truth is not public, files for the benchmark's server take the place of the evaluation, and the
    cell awaits the server's score. Raises `InputError` where data or weights are missing.
    """
    if request.method["name"] == NAME_LOOKUP:
        return _look_up(request)
    backbone = load_backbone(request.backbone, preprocess=request.protocol["preprocess"])
    encoded = _encoded(backbone, request, request.split)
    method = dict(request.method)
    if request.train is not None:
        method["phi"] = str(train_phi(request))
    features = compose(backbone, encoded, _composer(method, request.split))
    pdv, chosen = _setting(backbone, request, method)
    ranked = rank_queries(query_vectors(features, pdv), encoded)
    hidden = not encoded.benchmark.judgements
    outcome = (_submission if hidden else _outcome)(request, encoded.benchmark, ranked)
    return replace(
        outcome,
        pdv=None if pdv is None else pdv.to_dict(),
        config={
            "method": method,
            "backbone": asdict(backbone.spec),
            "pdv": request.pdv,
            "train": request.train,
        },
        facts=_facts(request, method, ranked, chosen),
        arrays={} if chosen is None else _sweep_arrays(chosen),
    )


def _look_up(request: CellRequest) -> CellOutcome:
    """The ceiling of benchmarks whose images have exact names: no vectors are compared."""
    benchmark = _benchmark(request, request.split)
    run = name_lookup(benchmark, depth=DEPTH)
    ranked = Ranked(run, None, evaluate(run, benchmark.judgements, benchmark.metrics))
    return replace(_outcome(request, benchmark, ranked), facts=_facts(request, request.method, ranked, None))


def _outcome(request: CellRequest, benchmark: Benchmark, ranked: Ranked) -> CellOutcome:
    evaluation = ranked.evaluation
    references = {query.id: query.reference or query.id for query in benchmark.queries}
    return CellOutcome(
        query_ids=evaluation.query_ids,
        references=[references[name] for name in evaluation.query_ids],
        per_query=evaluation.per_query,
        protocol=asdict(benchmark.protocol),
        config={"method": request.method},
    )


def _submission(request: CellRequest, benchmark: Benchmark, ranked: Ranked) -> CellOutcome:
    """The cell of a split without public ground truth: the files for its server, in a folder of the cell's own."""
    folder = request.submission_folder
    files = write_submissions(benchmark, ranked.run, ranked.subset_run, folder, request.path.stem)
    return CellOutcome(
        query_ids=[query.id for query in benchmark.queries],
        references=[query.reference or query.id for query in benchmark.queries],
        per_query={},
        protocol=asdict(benchmark.protocol),
        submission={str(path.relative_to(folder)): file_digest(path) for path in files},
    )


def train_phi(request: CellRequest) -> Path:
    """Train the cell's φ with `mmret fit` in a process of its own; cells of one training identity share it."""
    assert request.train is not None and request.train_identity is not None
    folder = request.folder.parent / "training" / request.train_identity[:12]
    phi = folder / "phi.safetensors"
    if phi.is_file():
        return phi
    configs = [word for path in request.train["config"] for word in ("--config", path)]
    options = {key: value for key, value in request.train.items() if key != "config"}
    overrides = [f"--{key}={value}" for key, value in options.items()]
    command = [sys.executable, "-m", "mmret", "fit", *configs, *overrides]
    command += [f"--model.init_args.backbone={request.backbone}", f"--seed_everything={request.seed}"]
    command += [
        "--trainer.logger=lightning.pytorch.loggers.CSVLogger",
        f"--trainer.logger.init_args.save_dir={folder}",
    ]
    command += ["--trainer.logger.init_args.name=", "--trainer.logger.init_args.version="]
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "fit.log"
    with log.open("w", encoding="utf-8") as output:
        done = subprocess.run(
            [*command, f"--trainer.default_root_dir={folder}"],
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode != 0 or not phi.is_file():
        raise InputError(
            f"Training φ for row {request.row}, seed {request.seed}, failed; its output is in {log}."
        )
    return phi


def _encoded(backbone: Backbone, request: CellRequest, split: str) -> EncodedBenchmark:
    return encode_benchmark(backbone, _benchmark(request, split), request.folder.parent / "stores")


def _benchmark(request: CellRequest, split: str) -> Benchmark:
    """The benchmark's split under the cell's protocol and metrics."""
    benchmark = load_benchmark(
        request.benchmark, split, protocol=request.protocol, allow_missing=request.allow_missing
    )
    return replace(benchmark, metrics=request.metrics)


def _composer(method: Mapping[str, Any], split: str) -> Composer:
    """The row's composer. Captions of "miniature" are the generated ones of the split."""
    options = dict(method)
    if options.get("captions") == "miniature":
        from mmret.data.miniature import caption_edits

        options["captions"] = caption_edits(split)
    return composer_from_spec(options)


def _setting(
    backbone: Backbone, request: CellRequest, method: Mapping[str, Any]
) -> tuple[PDV | None, SweepResult | None]:
    """PDV as the row gives it, or chosen on another split, with the sweep that chose it."""
    wanted = request.pdv
    if wanted is None:
        return None, None
    if isinstance(wanted, str):
        return PDV(alpha_image="auto") if wanted == "auto" else PDV.from_spec(wanted), None
    if "select" not in wanted:
        return PDV.from_spec(wanted), None
    split = str(wanted["select"])
    encoded = _encoded(backbone, request, split)
    features = compose(backbone, encoded, _composer(method, split))
    if not isinstance(features, ComposedFeatures):
        raise InputError(
            f"Row {request.row} asks for PDV, but {method.get('name')} has no reference text to act on."
        )
    chosen = select_pdv(features, encoded, wanted, (encoded.benchmark.name, request.split))
    return chosen.best, chosen


def _facts(
    request: CellRequest, method: Mapping[str, Any], ranked: Ranked, chosen: SweepResult | None
) -> dict[str, Any]:
    """What is worth keeping beside the numbers: ties, where the run and the training lie, how PDV was chosen."""
    run = request.path.with_suffix(".run.npz")
    run.parent.mkdir(parents=True, exist_ok=True)
    ranked.run.save(run)
    facts: dict[str, Any] = {"ties": ranked.evaluation.ties, "run": str(run)}
    if ranked.subset_run is not None:
        facts["subset_run"] = str(request.path.with_suffix(".subset-run.npz"))
        ranked.subset_run.save(facts["subset_run"])
    if request.train is not None:
        facts["training"] = str(Path(method["phi"]).parent)
    if chosen is not None:
        facts |= {
            "selected_on": list(chosen.selected_on),
            "metric": chosen.metric,
            "value": chosen.best_value,
        }
    return facts


def _sweep_arrays(chosen: SweepResult) -> dict[str, NDArray[np.float64]]:
    return {"sweep/beta": chosen.beta, "sweep/gamma": chosen.gamma, "sweep/values": chosen.values}
