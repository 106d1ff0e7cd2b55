"""What the miniature page encoder can do: questions of each kind over the generated pages of val."""

from math import comb
from typing import Final

import numpy as np

from mmret.backbones.base import Backbone
from mmret.data.miniature_pages import pages_benchmark
from mmret.data.miniature_pages.questions import KINDS
from mmret.embedding import embed_images, embed_texts
from mmret.retrieval.evaluate import evaluate
from mmret.retrieval.index import Index
from mmret.retrieval.search import search

CUTOFFS: Final = (1, 10)


def probe_pages(backbone: Backbone) -> dict[str, float]:
    """The share of val's questions of a kind with an answer among the first K of 500 pages, as "KIND success@K".

    The test pages are left for tables. Raises `InputError` for a backbone that gives several vectors a page.
    """
    benchmark = pages_benchmark("val")
    names = [query.id for query in benchmark.queries]
    index = Index(benchmark.gallery, embed_images(backbone, benchmark.images, progress=False))
    queries = embed_texts(backbone, [query.texts[0] for query in benchmark.queries])
    metrics = [f"success@{k}" for k in CUTOFFS]
    found = evaluate(search(index, names, queries, max(CUTOFFS)), benchmark.judgements, metrics)
    kinds = {query.id: query.attributes["kind"] for query in benchmark.queries}
    asked = np.array([kinds[name] for name in found.query_ids])
    return {
        f"{kind} {metric}": float(found.per_query[metric][asked == kind].mean())
        for kind in KINDS
        for metric in metrics
    }


def chances() -> dict[str, float]:
    """The same of a random ranking, whose first K miss all R answers among N pages in C(N − R, K) of C(N, K) cases."""
    return {f"{kind} success@{k}": _chance(kind, k) for kind in KINDS for k in CUTOFFS}


def _chance(kind: str, k: int) -> float:
    benchmark = pages_benchmark("val", kind)
    pages = len(benchmark.gallery)
    missed = [comb(pages - len(query.targets), k) / comb(pages, k) for query in benchmark.queries]
    return 1 - sum(missed) / len(missed)
