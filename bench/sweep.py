"""The PDV sweep against separate searches, at CIRCO's size: a Markdown table on standard output.

    python bench/sweep.py              # 220 × 123,403, D = 512 and 768: minutes on 2 quiet cores
    python bench/sweep.py --quick      # a small gallery, a look
    python bench/sweep.py --searches 1000    # every search measured, none extrapolated

Two synthetic galleries: a *realistic* one (clusters, the modality gap, T_comp near T_ref) and a *worst case*
of independent random vectors, where documents crowd together and few can be pruned. Each repeat times one
whole sweep and then a share of the searches, so that both meet the same load of the machine. A search's time
includes making its query vectors. All searches take their mean time times the number of settings, unless all
were run; the ratio is the median of the ratios within the repeats. Rankings are compared for every setting
that was searched.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from measuring import machine, seconds, spread, table_head, table_row
from numpy.typing import NDArray
from tqdm import tqdm

from mmret.composition import PDV, ComposedFeatures, QueryRankings, sweep
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
    """Seconds of whole sweeps, the searches' in each repeat, and the ranks that differ."""

    sweeps: list[float] = field(default_factory=list)
    searches: list[list[float]] = field(default_factory=list)
    swapped: int = 0
    wrong: int = 0


def settings() -> list[PDV]:
    """1,000 settings, all with another (β, γ): α_text = α_image = γ."""
    pairs = [(b, g) for b in np.linspace(0, 1, BETAS) for g in np.linspace(-0.5, 3, GAMMAS)]
    return [PDV(alpha_text=g, alpha_image=g, beta=b) for b, g in pairs]


def unit(rows: Floats) -> Floats:
    lengths: Floats = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / lengths


def noise(rng: np.random.Generator, count: int, width: int) -> Floats:
    return unit(rng.standard_normal((count, width), dtype=np.float32))


def realistic(queries: int, gallery: int, width: int) -> tuple[Floats, ComposedFeatures]:
    """Images around 1,000 centres and a common mean; texts around another mean, leaning to their image.

    Cosines come out as CLIP's do: image to image about .6, text to image .2 to .3, T_comp to T_ref about .9.
    """
    rng = np.random.default_rng(0)
    centres, image_mean, text_mean = noise(rng, 1000, width), noise(rng, 1, width), noise(rng, 1, width)
    own_centres = centres[rng.integers(0, 1000, gallery)]
    documents = unit(1.2 * image_mean + own_centres + 0.7 * noise(rng, gallery, width))
    image = documents[rng.integers(0, gallery, queries)]
    reference = unit(1.2 * text_mean + 0.5 * image + 0.5 * noise(rng, queries, width))
    edit = unit(centres[rng.integers(0, 1000, queries)] + noise(rng, queries, width))
    composed = unit(reference + 0.45 * edit)
    return documents, features(image, reference, composed)


def worst_case(queries: int, gallery: int, width: int) -> tuple[Floats, ComposedFeatures]:
    """Everything independent and uniform on the sphere."""
    rng = np.random.default_rng(0)
    documents = noise(rng, gallery, width)
    return documents, features(*(noise(rng, queries, width) for _ in range(3)))


def features(*three: Floats) -> ComposedFeatures:
    return ComposedFeatures(*map(torch.from_numpy, three))


def measure(index: Index, own: ComposedFeatures, options: argparse.Namespace) -> Timing:
    """Sweeps and searches in turn, the searches' rankings compared with the last sweep's."""
    timing, names = Timing(), [str(query) for query in range(len(own))]
    grid = settings()
    chosen = np.linspace(0, len(grid) - 1, min(options.searches, len(grid))).round().astype(int)
    shares = np.array_split(np.random.default_rng(1).permutation(chosen), options.repeats)
    rankings: list[QueryRankings] = []
    runs: list[Run] = []

    def whole_sweep() -> None:
        rankings[:] = sweep(index, names, own, grid, options.k)

    def one_search(row: int) -> None:
        runs.append(search(index, names, grid[row](own).numpy(), options.k))

    for share in tqdm(shares, desc=repr(index), unit="repeat"):
        timing.sweeps.append(seconds(whole_sweep))
        timing.searches.append([seconds(lambda row=row: one_search(row)) for row in share])
        for row, run in zip(share, runs[-len(share) :], strict=True):
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
    """The rows of the table."""
    makers: list[Callable[[int, int, int], tuple[Floats, ComposedFeatures]]] = [realistic, worst_case]
    for maker in makers:
        for width in options.widths:
            documents, own = maker(options.queries, options.gallery, width)
            index = Index([f"{row:07d}" for row in range(len(documents))], documents)
            yield row_of(maker.__name__.replace("_", " "), width, measure(index, own, options))


def row_of(name: str, width: int, timing: Timing) -> str:
    """Medians, with ranges in brackets."""
    totals = [float(np.mean(some)) * BETAS * GAMMAS for some in timing.searches]
    ratios = np.array(timing.sweeps) / totals
    singles = [one for some in timing.searches for one in some]
    times = [spread(timing.sweeps), spread(singles), spread(totals), spread(ratios)]
    return table_row(name, width, *times, f"{timing.swapped:,}", f"{timing.wrong:,}")


def main() -> None:
    """Print the table and what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="40 queries over 20,000 documents, for a look")
    parser.add_argument("--queries", type=int, default=220)
    parser.add_argument("--gallery", type=int, default=123_403)
    parser.add_argument("--widths", type=int, nargs="+", default=[512, 768])
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--searches", type=int, default=28, help="in all repeats together")
    options = parser.parse_args()
    if options.quick:
        options.queries, options.gallery, options.widths = 40, 20_000, [512]
    count = BETAS * GAMMAS
    print(f"{machine('numpy', 'torch')};")
    print(f"{count:,} settings, {options.queries} queries × {options.gallery:,} documents, k = {options.k};")
    print(f"{options.repeats} sweeps interleaved with {options.searches} searches; median (range).")
    print(f"Swapped, wrong: ranks that differ by documents within {TOLERANCE:g} in score, and by others.\n")
    columns = ["features", "D", "sweep s", "1 search s", f"{count:,} searches s", "sweep ÷ searches"]
    print(table_head(*columns, "swapped", "wrong"))
    for line in report(options):
        print(line, flush=True)


if __name__ == "__main__":
    main()
