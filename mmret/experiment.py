"""A table's cell, from names to numbers: backbone × composer × benchmark → run → evaluation.

`run_cell` is what a table calls for each of its missing cells; the corridor it goes through is `mmret.corridor`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from mmret.backbones import load_backbone
from mmret.backbones.base import Backbone
from mmret.cell_training import query_encoder, trained_backbone, trained_method, training_folders
from mmret.composition import ComposedFeatures, Composer, composer_from_spec
from mmret.composition.scores import Settled
from mmret.composition.word_files import PseudoWords
from mmret.corridor import Ranked, compose, query_vectors, rank_queries
from mmret.data import load_benchmark
from mmret.data.benchmark import Benchmark
from mmret.encoded_benchmark import EncodedBenchmark, encode_benchmark
from mmret.errors import InputError
from mmret.inversion import OTI, ConceptPhrases, invert_images
from mmret.inversion.images import made_by
from mmret.judging import answer_texts, evaluate_run
from mmret.pdv_choice import Choice, Row, choose
from mmret.retrieval.refine import break_ties
from mmret.run_methods import RUN_METHODS, run_method
from mmret.server_files import write_submissions
from mmret.tables.cells import CellOutcome, CellRequest, file_digest

#: The key under which an option of a method may differ by split, as caption files do.
BY_SPLIT = "by_split"
_INVERTED_AT_ONCE = 128


def run_cell(request: CellRequest) -> CellOutcome:
    """Run one cell of a table: train if the row trains, encode, compose, choose PDV, search, evaluate.

    Where the ground truth is not public, files for the benchmark's server take the place of the evaluation, and the
    cell awaits the server's score. Raises `InputError` where data or weights are missing.
    """
    if request.method["name"] in RUN_METHODS:
        return _run_directly(request)
    backbone = load_backbone(trained_backbone(request), preprocess=request.protocol["preprocess"])
    method = trained_method(request)
    texts = query_encoder(request, backbone, method)

    def composed(split: str) -> tuple[Settled, EncodedBenchmark]:
        benchmark = _benchmark(request, split)
        encoded = encode_benchmark(backbone, benchmark, request.folder.parent / "stores", texts=texts)
        composer = _composer(method, backbone, benchmark, request.folder.parent)
        return _compose(request, backbone, texts, encoded, composer), encoded

    features, encoded = composed(request.split)

    row = Row(features, encoded, str(method["name"]), backbone.spec, composed)
    choice = choose(request.pdv, request.scoring, row)
    ranked = rank_queries(query_vectors(features, choice.transform), encoded)
    return replace(
        _outcome(request, encoded.benchmark, ranked),
        pdv=choice.pdv,
        config={
            "method": method,
            "backbone": asdict(backbone.spec),
            "pdv": request.pdv,
            "scoring": request.scoring,
            "train": request.train,
            "text_encoder": request.text_encoder,
        },
        facts=_facts(request, ranked, choice),
        arrays=choice.arrays,
    )


def _run_directly(request: CellRequest) -> CellOutcome:
    """A cell whose method ranks by itself: by names or words, or from the runs of other rows."""
    benchmark = _benchmark(request, request.split)
    run = break_ties(run_method(request, benchmark), benchmark.judgements, benchmark.protocol.tie_break)
    ranked = Ranked(run, None, evaluate_run(run, benchmark))
    return replace(_outcome(request, benchmark, ranked), facts=_facts(request, ranked, Choice()))


def _outcome(request: CellRequest, benchmark: Benchmark, ranked: Ranked) -> CellOutcome:
    """The evaluation, or the files for the server where the ground truth is hidden."""
    return (_evaluated if benchmark.is_judged else _submission)(request, benchmark, ranked)


def _evaluated(request: CellRequest, benchmark: Benchmark, ranked: Ranked) -> CellOutcome:
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


def _compose(
    request: CellRequest, backbone: Backbone, texts: Backbone, encoded: EncodedBenchmark, composer: Composer
) -> Settled:
    """The queries' features by the encoder `texts`, and T_ref by the backbone's own where the row asks for that."""
    features = compose(texts, encoded, composer)
    if (request.text_encoder or {}).get("reference") != "frozen":
        return features
    own = compose(backbone, encoded, composer)
    if not isinstance(features, ComposedFeatures) or not isinstance(own, ComposedFeatures):
        raise InputError(f"Row {request.row}: {composer.name} has no T_ref that could stay the backbone's.")
    return replace(features, reference_text=own.reference_text)


def _benchmark(request: CellRequest, split: str) -> Benchmark:
    """The benchmark's split under the cell's protocol and metrics."""
    benchmark = load_benchmark(
        request.benchmark, split, protocol=request.protocol, allow_missing=request.allow_missing
    )
    answer_texts(benchmark, request.metrics)  # what they lack is told before anything is encoded
    return replace(benchmark, metrics=request.metrics)


def _composer(method: Mapping[str, Any], backbone: Backbone, benchmark: Benchmark, work: Path) -> Composer:
    """The row's composer on a benchmark's split.

    Captions of "miniature" (or `{miniature: 15}`, so many) are generated, and words of `{invert: settings}` are found,
    in the folder `work`.
    """
    split = benchmark.split
    options = {key: _on_split(value, split, key) for key, value in method.items()}
    captions, words = options.get("captions"), options.get("words")
    if isinstance(words, Mapping) and set(words) == {"invert"}:
        options["words"] = _inverted(words["invert"], backbone, benchmark, work)
    if captions == "miniature" or (isinstance(captions, Mapping) and set(captions) == {"miniature"}):
        from mmret.data.miniature import caption_edits

        options["captions"] = caption_edits(split, 1 if isinstance(captions, str) else captions["miniature"])
    return composer_from_spec(options)


def _inverted(
    settings: Mapping[str, Any], backbone: Backbone, benchmark: Benchmark, work: Path
) -> PseudoWords:
    """The pseudo-words of a benchmark's references by OTI with these settings, found once and kept in a file."""
    unknown = sorted(set(settings) - {item.name for item in fields(OTI)} - {"phrases"})
    if unknown:
        raise InputError(f"OTI has no {', '.join(unknown)}; it takes phrases and the settings of mmret oti.")
    options = dict(settings)
    source = options.pop("phrases", None)
    oti, phrases = OTI(**options), None if source is None else ConceptPhrases.read(source)
    mark = json.dumps([backbone.fingerprint(), made_by(oti, phrases)], sort_keys=True)
    name = f"{benchmark.name}-{benchmark.split}-{hashlib.sha256(mark.encode()).hexdigest()[:12]}.safetensors"
    return invert_images(
        backbone,
        benchmark.images,
        work / "words" / name.replace("/", "-"),
        [query.reference for query in benchmark.queries if query.reference is not None],
        oti=oti,
        phrases=phrases,
        batch_size=_INVERTED_AT_ONCE,
    )


def _on_split(value: Any, split: str, key: str) -> Any:
    """An option's value on a split: `{by_split: {val: …, test: …}}`, or the same for all."""
    if not isinstance(value, Mapping) or set(value) != {BY_SPLIT}:
        return value
    if split not in value[BY_SPLIT]:
        known = ", ".join(value[BY_SPLIT])
        raise InputError(f"The method's {key} is given for the splits {known}, and {split} is needed.")
    return value[BY_SPLIT][split]


def _facts(request: CellRequest, ranked: Ranked, choice: Choice) -> dict[str, Any]:
    """What is worth keeping beside the numbers: ties, where the run and the training lie, how PDV was chosen."""
    run = request.run_path
    run.parent.mkdir(parents=True, exist_ok=True)
    ranked.run.save(run)
    facts: dict[str, Any] = {"ties": ranked.evaluation.ties, "run": str(run)}
    if ranked.subset_run is not None:
        facts["subset_run"] = str(request.path.with_suffix(".subset-run.npz"))
        ranked.subset_run.save(facts["subset_run"])
    return {**facts, **training_folders(request), **choice.facts}
