"""Exact search through mmret against FAISS by hand, torch and numpy: a Markdown table on standard output.

    python bench/search.py --quick     # small problems, about a minute
    python bench/search.py             # 10k x 200k x 768, k = 100: about half an hour on 2 cores

Vectors are random and of unit length. Every repeat runs each method once, one after the other and in turn
first, so that all meet the same load of the machine; times are medians with their range, and a ratio is the
median of the ratios within the repeats. `search` is timed whole: it checks and normalises the queries,
closes ties and makes the run. "FAISS by hand" is `IndexFlatIP.search` with the
same settings (BLAS threshold and blocks) set by hand; "FAISS by default" is the same call with no settings
touched.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from mmret.retrieval import Index, search
from mmret.retrieval.faiss_backend import best_settings

Floats = NDArray[np.float32]
Methods = dict[str, Callable[[], object]]

OURS = "mmret search"
BY_HAND = "FAISS by hand"
BY_DEFAULT = "FAISS by default"
CHUNK = 1_024  # queries a matrix product, for torch and numpy


@dataclass(frozen=True)
class Problem:
    """Q queries over n vectors of width D, k deep."""

    queries: int
    gallery: int
    width: int
    k: int

    def __str__(self) -> str:
        return f"{self.queries:,} × {self.gallery:,} × {self.width}, k = {self.k}"


LARGE = Problem(10_000, 200_000, 768, 100)
FEW_QUERIES = [  # around the number from which mmret lets FAISS use BLAS
    Problem(1, 200_000, 512, 100),
    Problem(4, 200_000, 512, 100),
    Problem(8, 200_000, 512, 100),
    Problem(16, 200_000, 512, 100),
]
UNDER_THE_SWITCH = [
    Problem(100, 200_000, 512, 100),
    Problem(160, 200_000, 512, 100),
    Problem(240, 200_000, 512, 100),
    Problem(160, 200_000, 768, 100),
]
QUICK_LARGE = Problem(1_000, 20_000, 768, 100)
QUICK_GALLERY = 20_000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small galleries, for a look")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{machine()}; {options.repeats} interleaved repeats; median (range).\n")
    print("| problem | method | seconds | × the reference | disagreeing ranks |")
    print("|---|---|---|---|---|")
    large = QUICK_LARGE if options.quick else LARGE
    report(large, everyone, BY_HAND, options.repeats, options.seed)
    for problem in FEW_QUERIES + UNDER_THE_SWITCH:
        gallery = QUICK_GALLERY if options.quick else problem.gallery
        smaller = Problem(problem.queries, gallery, problem.width, problem.k)
        report(smaller, faiss_alone, BY_DEFAULT, options.repeats, options.seed)


def report(
    problem: Problem,
    contestants: Callable[[Floats, Floats, int], Methods],
    reference: str,
    repeats: int,
    seed: int,
) -> None:
    """Time the contestants on one problem and print their rows; ratios are to the `reference`."""
    generator = np.random.default_rng(seed)
    gallery = unit_vectors(generator, problem.gallery, problem.width)
    queries = unit_vectors(generator, problem.queries, problem.width)
    methods = contestants(gallery, queries, problem.k)
    rankings = {name: np.asarray(method()) for name, method in methods.items()}  # also warms up
    seconds = timed(methods, repeats, str(problem))
    for name, times in seconds.items():
        ratio = "reference" if name == reference else spread(times / seconds[reference], "×")
        apart = int((rankings[name] != rankings[reference]).sum())
        print(f"| {problem} | {name} | {spread(times)} | {ratio} | {apart:,} |", flush=True)


def timed(methods: Methods, repeats: int, label: str) -> dict[str, NDArray[np.float64]]:
    """Seconds of each method in each repeat; every repeat begins with another method."""
    names = list(methods)
    seconds = {name: np.zeros(repeats) for name in names}
    for repeat in tqdm(range(repeats), desc=label, unit="repeat"):
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            start = time.perf_counter()
            methods[name]()
            seconds[name][repeat] = time.perf_counter() - start
    return seconds


def everyone(gallery: Floats, queries: Floats, k: int) -> Methods:
    """Our search and its three peers, each returning document rows [Q, k]."""
    return {
        **faiss_alone(gallery, queries, k, default=False),
        "torch float32 + topk": lambda: torch_search(gallery, queries, k),
        "numpy + argpartition": lambda: numpy_search(gallery, queries, k),
    }


def faiss_alone(gallery: Floats, queries: Floats, k: int, *, default: bool = True) -> Methods:
    """Our search, FAISS with the best settings and, with `default`, FAISS with none."""
    # Our ids are in the order of rows, so that rows can be compared; normalised vectors are shared.
    names = [f"{row:09d}" for row in range(len(gallery))]
    asked = names[: len(queries)]
    index = Index(names, gallery, normalise=False)
    by_hand = faiss.IndexFlatIP(gallery.shape[1])
    by_hand.add(gallery)

    def with_settings() -> object:
        with best_settings(gallery.shape[1]):
            return by_hand.search(queries, k)[1]

    methods: Methods = {
        OURS: lambda: search(index, asked, queries, k).indices,
        BY_HAND: with_settings,
    }
    return {**methods, BY_DEFAULT: lambda: by_hand.search(queries, k)[1]} if default else methods


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


def spread(values: NDArray[np.float64], unit: str = "") -> str:
    """Median and range, three significant digits."""
    low, middle, high = (f"{number:.3g}" for number in np.quantile(values, [0, 0.5, 1]))
    return f"{middle}{unit} ({low}–{high})"


def machine() -> str:
    """Processor, cores, load and the versions that were measured."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    extras = " with AMX" if any("amx_tile" in line for line in lines) else ""
    versions = f"faiss {faiss.__version__}, torch {torch.__version__}, numpy {np.__version__}"
    return f"{model}{extras}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {versions}"


if __name__ == "__main__":
    main()
