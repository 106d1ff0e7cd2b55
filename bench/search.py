"""Exact search through mmret against FAISS by hand, torch and numpy: a Markdown table on standard output.

    python bench/search.py             # 10k × 200k × 768, k = 100 and smaller ones: minutes on 2 quiet cores
    python bench/search.py --quick     # small galleries, a look

Vectors are random and of unit length. `search` is timed whole: it checks and normalises the queries, closes ties
and makes the run. "FAISS by hand" is `IndexFlatIP.search` with the same settings (BLAS threshold and blocks) set
by hand; "FAISS by default" is the same call with no settings touched. torch and numpy, which take longest, are
compared on a tenth of the queries. Times are medians of interleaved repeats with their range; a ratio is the
median of the ratios within the repeats. Disagreeing ranks are counted in the last repeat.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import faiss
import numpy as np
import torch
from measuring import interleaved, machine, spread, table_head, table_row
from numpy.typing import NDArray

from mmret.retrieval import Index, search
from mmret.retrieval.faiss_backend import best_settings, installed_distributions

Floats = NDArray[np.float32]
Methods = dict[str, Callable[[], object]]

OURS = "mmret search"
BY_HAND = "FAISS by hand"
BY_DEFAULT = "FAISS by default"
TORCH = "torch float32 + topk"
NUMPY = "numpy + argpartition"
CHUNK = 1_024  # queries a matrix product, for torch and numpy


@dataclass(frozen=True)
class Problem:
    """Q queries over n vectors of width D, k deep, and the methods that are timed, the reference last."""

    queries: int
    gallery: int
    width: int
    methods: tuple[str, ...]
    k: int = 100

    def __str__(self) -> str:
        return f"{self.queries:,} × {self.gallery:,} × {self.width}, k = {self.k}"


EVERYONE, SETTINGS = (OURS, TORCH, NUMPY, BY_HAND), (OURS, BY_HAND, BY_DEFAULT)
PROBLEMS = [
    Problem(10_000, 200_000, 768, (OURS, BY_HAND)),
    Problem(1_000, 200_000, 768, EVERYONE),
    *(Problem(queries, 200_000, 512, SETTINGS) for queries in (100, 160, 240)),  # under FAISS's BLAS switch
    Problem(160, 200_000, 768, SETTINGS),
    *(Problem(queries, 200_000, 512, SETTINGS) for queries in (1, 4, 8, 16)),  # around mmret's own switch
]
QUICK_QUERIES, QUICK_GALLERY = 1_000, 20_000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small galleries, for a look")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{machine(*installed_distributions(), 'torch', 'numpy')};")
    print(f"{options.repeats} interleaved repeats; median (range).\n")
    print(table_head("problem", "method", "seconds", "× the reference", "disagreeing ranks"))
    for problem in PROBLEMS:
        if options.quick:
            queries = min(problem.queries, QUICK_QUERIES)
            problem = replace(problem, queries=queries, gallery=QUICK_GALLERY)
        print("\n".join(measured(problem, options.repeats, options.seed)), flush=True)


def measured(problem: Problem, repeats: int, seed: int) -> Sequence[str]:
    """Time the methods on one problem: a row each, ratios to the last."""
    generator = np.random.default_rng(seed)
    gallery = unit_vectors(generator, problem.gallery, problem.width)
    queries = unit_vectors(generator, problem.queries, problem.width)
    contestants = methods(gallery, queries, problem.k)
    rankings: dict[str, NDArray[np.int64]] = {}

    def kept(name: str) -> Callable[[], object]:
        return lambda: rankings.update({name: np.asarray(contestants[name]())})

    reference = problem.methods[-1]
    times = interleaved({name: kept(name) for name in problem.methods}, repeats, str(problem))
    rows = []
    for name in problem.methods:
        ratio = "reference" if name == reference else spread(times[name] / times[reference], "×")
        apart = int((rankings[name] != rankings[reference]).sum())
        rows.append(table_row(problem, name, spread(times[name]), ratio, f"{apart:,}"))
    return rows


def methods(gallery: Floats, queries: Floats, k: int) -> Methods:
    """Our search and its peers, each returning document rows [Q, k]."""
    # Our ids are in the order of rows, so that rows can be compared; normalised vectors are shared.
    names = [f"{row:09d}" for row in range(len(gallery))]
    asked = names[: len(queries)]
    index = Index(names, gallery, normalise=False)
    by_hand = faiss.IndexFlatIP(gallery.shape[1])
    by_hand.add(gallery)

    def with_settings() -> object:
        with best_settings(gallery.shape[1]):
            return by_hand.search(queries, k)[1]

    return {
        OURS: lambda: search(index, asked, queries, k).indices,
        BY_HAND: with_settings,
        BY_DEFAULT: lambda: by_hand.search(queries, k)[1],
        TORCH: lambda: torch_search(gallery, queries, k),
        NUMPY: lambda: numpy_search(gallery, queries, k),
    }


@torch.inference_mode()
def torch_search(gallery: Floats, queries: Floats, k: int) -> object:
    """Matrix product and top-k in chunks of queries."""
    vectors = torch.from_numpy(gallery)
    chunks = torch.split(torch.from_numpy(queries), CHUNK)
    return torch.cat([(chunk @ vectors.T).topk(k).indices for chunk in chunks]).numpy()


def numpy_search(gallery: Floats, queries: Floats, k: int) -> object:
    """Matrix product, argpartition and a sort of the k best in chunks of queries."""
    found = []
    for start in range(0, len(queries), CHUNK):
        scores = queries[start : start + CHUNK] @ gallery.T
        best = np.argpartition(scores, scores.shape[1] - k, axis=1)[:, -k:]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
        found.append(np.take_along_axis(best, order, axis=1))
    return np.concatenate(found)


def unit_vectors(generator: np.random.Generator, count: int, width: int) -> Floats:
    """Random directions, float32 [count, width]."""
    vectors = generator.standard_normal((count, width), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


if __name__ == "__main__":
    main()
