"""Methods of a table's row that make a run without an image encoder: names, words, and the runs of other rows.

name-lookup   exact names (`mmret.name_lookup`); no options
bm25          `text` (a file of `mmret pages text` or `ocr`, or a name among the benchmark's `other_texts`; by default
              its own texts), `k1`, `b`, `method`, and the analyser's `stop_words` and `stemmer`
dense-text    `model`, `revision`, `text`, `query_prompt`, `document_prompt`, `batch_size`
hybrid        `of` (rows above), `fuse` (rrf, weighted), `weights`, `constant` (of rrf, 60)
rerank        `of` (one row above), `top` (20; no metric looks deeper), and either `model` (a cross-encoder of
              sentence-transformers) with `revision` and `text`, or `scorer: package.module:name`, called with the
              benchmark, which gives a `Scorer`
"""

import math
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
from mmret.retrieval.metrics import metric
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
_TOP: Final = 20
_DENSE: Final = ("model", "revision", "query_prompt", "document_prompt", "batch_size")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _is_count(value: object) -> bool:
    return _is_number(value) and isinstance(value, int) and value >= 1


_NUMBER: Final = ("a number of 0 or more", _is_number)
_COUNT: Final = ("a whole number of 1 or more", _is_count)
_TEXT: Final = ("a text", lambda value: isinstance(value, str))
_KINDS: Final[Mapping[str, tuple[str, Callable[[Any], bool]]]] = {
    "k1": _NUMBER,
    "b": ("a number from 0 to 1", lambda value: _is_number(value) and value <= 1),
    "constant": _NUMBER,
    "weights": (
        "a list of numbers of 0 or more",
        lambda value: isinstance(value, list) and all(map(_is_number, value)),
    ),
    "top": _COUNT,
    "batch_size": _COUNT,
    "fuse": ("rrf or weighted", lambda value: value in ("rrf", "weighted")),
    "of": ("a list of rows", lambda value: isinstance(value, list)),
    **dict.fromkeys(
        ("text", "method", "model", "revision", "query_prompt", "document_prompt", "scorer", *_ANALYSER),
        _TEXT,
    ),
}
"""What an option must be, and how that is told; an option that does not stand here its method checks itself."""
_ANYTHING: Final = ("anything", lambda value: True)


def run_method(request: CellRequest, benchmark: Benchmark) -> Run:
    """The run of a cell whose method is one of `RUN_METHODS`.

    Raises:
        InputError: Options that are unknown, missing or of another kind; texts, models or other rows' runs that are
            not there.
    """
    make, known = RUN_METHODS[str(request.method["name"])]
    _check_options(request, known)
    return make(request, benchmark)


def _check_options(request: CellRequest, known: Sequence[str]) -> None:
    """Refuse an option that the method does not have, or that is of another kind; see `run_method`."""
    given = {option: value for option, value in request.method.items() if option != "name"}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InputError(
            f"The method {request.method['name']} has no option {unknown[0]!r}; it has {', '.join(known) or 'none'}."
        )
    for option, value in given.items():
        wanted, fits = _KINDS.get(option, _ANYTHING)
        if not fits(value):
            raise InputError(f"Row {request.row}: {option} is {value!r}, where {wanted} is needed.")


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
    runs, weights = _part_runs(request), options.get("weights")
    if options.get("fuse", "rrf") == "rrf":
        return fuse_ranks(runs, depth, weights=weights, constant=options.get("constant", RANK_CONSTANT))
    if "constant" in options:
        raise InputError(f"Row {request.row}: constant is of reciprocal ranks (rrf), and fuse is weighted.")
    return fuse_scores(runs, depth, weights=weights)


def _rerank(request: CellRequest, benchmark: Benchmark) -> Run:
    runs = _part_runs(request)
    if len(runs) != 1:
        raise InputError(f"Row {request.row} re-ranks one row, not {len(runs)}.")
    top, deepest = request.method.get("top", _TOP), max(map(metric, request.metrics), key=lambda each: each.k)
    if top < deepest.k:
        raise InputError(
            f"Row {request.row} ranks the first {top} documents again, and {deepest} looks at {deepest.k}: "
            f"give top {deepest.k} or more."
        )
    return rerank(runs[0], _scorer(request.method, benchmark, runs[0]), top)


def _scorer(options: Options, benchmark: Benchmark, run: Run) -> Scorer:
    if ("model" in options) == ("scorer" in options):
        raise InputError(
            "The method rerank needs a model (a cross-encoder) or a scorer (package.module:name)."
        )
    if "scorer" in options and {"text", "revision"} & set(options):
        raise InputError("The method rerank takes text and revision for a model; a scorer has its own.")
    if "model" in options:
        ranked = {run.document_ids[place] for place in run.indices[run.indices >= 0]}
        texts = dict(gallery_texts(options, benchmark).read(ranked))
        return TextPairScorer.load(options["model"], asked_texts(benchmark), texts, options.get("revision"))
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
    "rerank": (_rerank, ("of", "top", "model", "revision", "text", "scorer")),
}
"""Method → what makes its run, and its options."""
