"""Methods of a table's row that make a run without an image encoder: names, words, and the runs of other rows.

name-lookup   exact names (`mmret.name_lookup`); no options
bm25          `text` (a file of `mmret pages text` or `ocr`, or a name among the benchmark's `other_texts`; by default
              its own texts), `k1`, `b`, `method`, and the analyser's `stop_words` and `stemmer`
dense-text    `model`, `revision`, `text`, `query_prompt`, `document_prompt`, `batch_size`
hybrid        `of` (rows above), `fuse` (rrf, weighted), `weights`, `constant` (of rrf, 60)
rerank        `of` (one row above), `top` (20), and either `model` (a cross-encoder of sentence-transformers) with
              `text`, or `scorer: package.module:name`, called with the benchmark, which gives a `Scorer`
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, cast

from mmret.data.benchmark import Benchmark
from mmret.data.text_sources import GalleryTexts, MappedTexts, TextFile, TextSource
from mmret.errors import InputError
from mmret.judging import run_depth
from mmret.name_lookup import name_lookup
from mmret.retrieval.fusion import RANK_CONSTANT, fuse_ranks, fuse_scores
from mmret.retrieval.index import Index
from mmret.retrieval.rerank import Scorer, rerank
from mmret.retrieval.run import Run
from mmret.retrieval.store import EmbeddingStore
from mmret.tables.cells import CellRequest, digest
from mmret.text_search.analyser import Analyser
from mmret.text_search.bm25 import BM25
from mmret.text_search.cross_encoder import TextPairScorer
from mmret.text_search.dense import DenseText

Options = Mapping[str, Any]

_ANALYSER: Final = ("stop_words", "stemmer")
_BM25: Final = ("k1", "b", "method")
_DENSE: Final = ("model", "revision", "query_prompt", "document_prompt", "batch_size")


def run_method(request: CellRequest, benchmark: Benchmark) -> Run:
    """The run of a cell whose method is one of `RUN_METHODS`.

    Raises:
        InputError: Unknown or missing options; texts, models or other rows' runs that are not there.
    """
    name = str(request.method["name"])
    make, known = RUN_METHODS[name]
    unknown = sorted(set(request.method) - {"name", *known})
    if unknown:
        raise InputError(
            f"The method {name} has no option {unknown[0]!r}; it has {', '.join(known) or 'none'}."
        )
    return make(request, benchmark)


def gallery_texts(options: Options, benchmark: Benchmark) -> TextSource:
    """The texts of the gallery: those that the options name (a file, or some of the benchmark's), or else its own."""
    own = MappedTexts(benchmark.texts) if benchmark.texts else benchmark.page_texts
    named = options.get("text")
    source = own if named is None else benchmark.other_texts.get(named) or TextFile(Path(named))
    if source is None:
        raise InputError(
            f"{benchmark.name} brings no texts: name a file of `mmret pages text` or `ocr` as the method's text."
        )
    return GalleryTexts(source, benchmark.gallery, str(options.get("text", benchmark.name)))


def asked_texts(benchmark: Benchmark) -> dict[str, str]:
    """Query id → its words; several captions one after the other."""
    return {query.id: " ".join(benchmark.alternatives(query)) for query in benchmark.queries}


def _bounds(benchmark: Benchmark) -> dict[str, Any]:
    return {"exclude": benchmark.exclusions, "pools": benchmark.searched_pools}


def _look_up(request: CellRequest, benchmark: Benchmark) -> Run:
    return name_lookup(benchmark, depth=run_depth(benchmark))


def _bm25(request: CellRequest, benchmark: Benchmark) -> Run:
    options = request.method
    analyser = Analyser(**_chosen(options, _ANALYSER))
    index = BM25(**_chosen(options, _BM25), analyser=analyser).index(gallery_texts(options, benchmark).read())
    return index.search(asked_texts(benchmark), run_depth(benchmark), **_bounds(benchmark))


def _dense(request: CellRequest, benchmark: Benchmark) -> Run:
    if "model" not in request.method:
        raise InputError("The method dense-text needs a model of sentence-transformers.")
    encoder = DenseText(**_chosen(request.method, _DENSE)).load()
    # One store for a model, its prompt and a set of texts, whichever rows and pools search it.
    named = [request.method["text"]] if "text" in request.method else []
    own = set(named) <= set(benchmark.other_texts)
    source = [benchmark.name, benchmark.version, *named] if own else request.description["files"]
    mark = digest([encoder.fingerprint(), source])[:12]
    store = EmbeddingStore.open(request.folder.parent / "stores" / f"text-{mark}", encoder.fingerprint())
    encoder.embed(gallery_texts(request.method, benchmark).read(), store)
    index = Index(benchmark.gallery, store.vectors(benchmark.gallery))
    return encoder.search(index, asked_texts(benchmark), run_depth(benchmark), **_bounds(benchmark))


def _hybrid(request: CellRequest, benchmark: Benchmark) -> Run:
    options, depth = request.method, run_depth(benchmark)
    runs, weights, how = _part_runs(request), options.get("weights"), options.get("fuse", "rrf")
    if how == "rrf":
        return fuse_ranks(runs, depth, weights=weights, constant=options.get("constant", RANK_CONSTANT))
    if how == "weighted":
        return fuse_scores(runs, depth, weights=weights)
    raise InputError(f"Row {request.row}: fuse is {how!r}, not rrf or weighted.")


def _rerank(request: CellRequest, benchmark: Benchmark) -> Run:
    runs = _part_runs(request)
    if len(runs) != 1:
        raise InputError(f"Row {request.row} re-ranks one row, not {len(runs)}.")
    return rerank(runs[0], _scorer(request.method, benchmark, runs[0]), request.method.get("top", 20))


def _scorer(options: Options, benchmark: Benchmark, run: Run) -> Scorer:
    if ("model" in options) == ("scorer" in options):
        raise InputError(
            "The method rerank needs a model (a cross-encoder) or a scorer (package.module:name)."
        )
    if "model" in options:
        ranked = {run.document_ids[place] for place in run.indices[run.indices >= 0]}
        texts = dict(gallery_texts(options, benchmark).read(ranked))
        return TextPairScorer.load(options["model"], asked_texts(benchmark), texts)
    module, _, name = str(options["scorer"]).partition(":")
    try:
        return cast(Scorer, getattr(import_module(module), name)(benchmark))
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"There is no scorer {options['scorer']} ({error}); write package.module:name."
        ) from None


def _part_runs(request: CellRequest) -> list[Run]:
    """The runs of the rows that the method is of, which must have been run."""
    if not request.parts:
        raise InputError(
            f"Row {request.row}: the method {request.method['name']} needs the rows that it is of."
        )
    waiting = [part for part in request.parts if not (part.path.is_file() and part.run_path.is_file())]
    if waiting:
        raise InputError(f"it is made of {waiting[0].row}, which has no run.")
    return [Run.load(part.run_path) for part in request.parts]


def _chosen(options: Options, names: Sequence[str]) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}


RUN_METHODS: Final[Mapping[str, tuple[Callable[[CellRequest, Benchmark], Run], tuple[str, ...]]]] = {
    "name-lookup": (_look_up, ()),
    "bm25": (_bm25, ("text", *_BM25, *_ANALYSER)),
    "dense-text": (_dense, ("text", *_DENSE)),
    "hybrid": (_hybrid, ("of", "fuse", "weights", "constant")),
    "rerank": (_rerank, ("of", "top", "model", "text", "scorer")),
}
"""Method → what makes its run, and its options."""
