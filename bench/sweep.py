"""The PDV sweep against separate searches, at CIRCO's size.

    python bench/sweep.py                      # D = 512 and 768, about 15 minutes on 2 cores
    python bench/sweep.py --searches 1000      # every search measured, none extrapolated

Two synthetic galleries: a *realistic* one (clusters, the modality gap, T_comp near T_ref) and a *worst case*
of independent random vectors, where documents crowd together and few can be pruned. Each repeat times one
whole sweep and then a share of the searches, so that both meet the same load of the machine. A search's time
includes making its query vectors. The time of all searches is their mean times the number of settings, unless
all were run. Rankings are compared for every setting that was searched.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from mmret.composition import PDV, ComposedFeatures, sweep
from mmret.retrieval.index import Index
from mmret.retrieval.run import Run
from mmret.retrieval.search import search

Floats = NDArray[np.float32]

BETAS, GAMMAS = 20, 50
"""Their product is the number of distinct settings."""

TOLERANCE = 1e-6
"""Two scores closer than this may stand in either order."""


@dataclass
class Timing:
    """Seconds of whole sweeps and of single searches, and the rankings that differ."""

    sweeps: list[float] = field(default_factory=list)
    searches: list[float] = field(default_factory=list)
    swapped: int = 0
    wrong: int = 0


def settings() -> list[PDV]:
    """1,000 settings, all with another (β, γ): α_text = α_image = γ."""
    pairs = [(b, g) for b in np.linspace(0, 1, BETAS) for g in np.linspace(-0.5, 3, GAMMAS)]
    return [PDV(alpha_text=g, alpha_image=g, beta=b) for b, g in pairs]


def unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / lengths


def noise(rng: np.random.Generator, count: int, width: int) -> NDArray[np.float64]:
    return unit(rng.standard_normal((count, width)))


def realistic(queries: int, gallery: int, width: int) -> tuple[Floats, ComposedFeatures]:
    """Images around 1,000 centres and a common mean; texts around another mean, leaning to their image.

    Cosines come out as CLIP's do: image to image about .6, text to image .2 to .3, T_comp to T_ref about .9.
    """
    rng = np.random.default_rng(0)
    centres, image_mean, text_mean = noise(rng, 1000, width), noise(rng, 1, width), noise(rng, 1, width)
    documents = unit(
        1.2 * image_mean + centres[rng.integers(0, 1000, gallery)] + 0.7 * noise(rng, gallery, width)
    )
    image = documents[rng.integers(0, gallery, queries)]
    reference = unit(1.2 * text_mean + 0.5 * image + 0.5 * noise(rng, queries, width))
    edit = unit(centres[rng.integers(0, 1000, queries)] + noise(rng, queries, width))
    composed = unit(reference + 0.45 * edit)
    return documents.astype(np.float32), features(image, reference, composed)


def worst_case(queries: int, gallery: int, width: int) -> tuple[Floats, ComposedFeatures]:
    """Everything independent and uniform on the sphere."""
    rng = np.random.default_rng(0)
    documents = noise(rng, gallery, width).astype(np.float32)
    return documents, features(*(noise(rng, queries, width) for _ in range(3)))


def features(*three: NDArray[np.float64]) -> ComposedFeatures:
    return ComposedFeatures(*(torch.from_numpy(part.astype(np.float32)) for part in three))


def measure(index: Index, own: ComposedFeatures, options: argparse.Namespace) -> Timing:
    """Sweeps and searches in turn, the searches' rankings compared with the last sweep's."""
    timing, names = Timing(), [str(query) for query in range(len(own))]
    grid = settings()
    chosen = np.linspace(0, len(grid) - 1, min(options.searches, len(grid))).round().astype(int)
    for share in np.array_split(np.random.default_rng(1).permutation(chosen), options.repeats):
        started = time.perf_counter()
        rankings = list(sweep(index, names, own, grid, options.k))
        timing.sweeps.append(time.perf_counter() - started)
        for row in share:
            started = time.perf_counter()
            run = search(index, names, grid[row](own).numpy(), options.k)
            timing.searches.append(time.perf_counter() - started)
            found = np.stack([ranking.indices[row] for ranking in rankings])
            count_differences(index, grid[row](own).double().numpy(), found, run, timing)
    return timing


def count_differences(
    index: Index, queries: NDArray[np.float64], found: NDArray[np.int64], run: Run, timing: Timing
) -> None:
    """Count the ranks at which two rankings differ: by documents close in score (swapped) or not (wrong)."""
    for query, rank in np.argwhere(found != run.indices):
        pair = index.vectors[[found[query, rank], run.indices[query, rank]]].astype(np.float64)
        gap = abs(float((pair @ queries[query]) @ [1, -1]))
        timing.swapped += gap <= TOLERANCE
        timing.wrong += gap > TOLERANCE


def report(options: argparse.Namespace) -> Iterator[str]:
    """The lines of a Markdown table."""
    yield "| features | D | sweep s | 1 search s | all searches s | sweep ÷ searches | swapped | wrong |"
    yield "|---|---|---|---|---|---|---|---|"
    makers: list[Callable[[int, int, int], tuple[Floats, ComposedFeatures]]] = [realistic, worst_case]
    for maker in makers:
        for width in options.widths:
            documents, own = maker(options.queries, options.gallery, width)
            index = Index([f"{row:07d}" for row in range(len(documents))], documents)
            yield row_of(maker.__name__, width, measure(index, own, options))


def row_of(name: str, width: int, timing: Timing) -> str:
    """One line: medians, with ranges in brackets."""
    total = float(np.mean(timing.searches)) * BETAS * GAMMAS
    ratio = [seconds / total for seconds in timing.sweeps]
    cells = [spread(timing.sweeps), spread(timing.searches), f"{total:.0f}", spread(ratio)]
    counts = [f"{timing.swapped:,}", f"{timing.wrong:,}"]
    return f"| {name.replace('_', ' ')} | {width} | {' | '.join(cells + counts)} |"


def spread(values: list[float]) -> str:
    return f"{np.median(values):.3g} ({min(values):.3g}–{max(values):.3g})"


def main() -> None:
    """Print the table and what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--queries", type=int, default=220)
    parser.add_argument("--gallery", type=int, default=123_403)
    parser.add_argument("--widths", type=int, nargs="+", default=[512, 768])
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--searches", type=int, default=28)
    options = parser.parse_args()
    count = BETAS * GAMMAS
    print(f"{count:,} settings, {options.queries} queries x {options.gallery:,} documents, k = {options.k};")
    print(f"{options.repeats} sweeps interleaved with {options.searches} searches; {os.cpu_count()} cores.")
    if options.searches < count:
        print(f"All searches: the mean of the measured ones x {count:,}.")
    print(f"Swapped, wrong: ranks that differ by documents within {TOLERANCE:g} in score, and by others.\n")
    for line in report(options):
        print(line, flush=True)


if __name__ == "__main__":
    main()
