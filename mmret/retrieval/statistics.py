"""How sure a difference is: bootstrap intervals, sign-flip tests, and Holm's correction.

Values are per-query metrics, [Q] for one run or [S, Q] for S training seeds. Queries that share a reference
image are no independent samples: `clusters` gives each query's group, and groups are what is resampled.
"""

from collections.abc import Hashable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmret.errors import InputError
from mmret.retrieval.metrics import Values

_DRAWS_AT_A_TIME = 2**22  # random numbers held at once
_EQUAL = 1 - 1e-12  # sums of the same numbers in another order count as equal


def bootstrap_interval(
    values: ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    samples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean: (low, high).

    With [S, Q] values, seeds and queries are drawn independently (crossed random effects: Owen and Eckles,
    "Bootstrapping data arrays of arbitrary order", 2012).

    Args:
        values: [Q] or [S, Q], finite.
        clusters: Q labels; queries of one label are drawn together.
        samples: how many resamples.
        level: share of resampled means inside the interval.
        seed: of the random numbers.

    Raises:
        InputError: values are empty, not finite or of another shape; the count of clusters differs;
            `samples` or `level` is out of range.
    """
    table = _table(values)
    _check_bootstrap(samples, level)
    groups, sizes = _groups(clusters, table.shape[1])
    sums = _sums(table, groups, len(sizes))
    generator = np.random.default_rng(seed)
    means = [_resampled_means(generator, sums, sizes, count) for count in _batches(samples, len(sizes))]
    return _percentiles(np.concatenate(means), level)


def bootstrap_average_interval(
    parts: Sequence[ArrayLike],
    *,
    clusters: Sequence[Sequence[Hashable]] | None = None,
    samples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of several parts' means, each part counting alike: (low, high).

    Such are FashionIQ's average over its categories and GeneCIS's over its tasks. Queries are drawn within
    each part (a stratified bootstrap); seeds are drawn once for all parts, which share their training.

    Args:
        parts: [Q] or [S, Q] for each part, with one S for all, finite.
        clusters: for each part its Q labels; queries of one label are drawn together.
        samples: how many resamples.
        level: share of resampled averages inside the interval.
        seed: of the random numbers.

    Raises:
        InputError: as `bootstrap_interval`; or there is no part, or the parts differ in S.
    """
    tables = [_table(values) for values in parts]
    _check_bootstrap(samples, level)
    if len({len(table) for table in tables}) != 1 or (clusters is not None and len(clusters) != len(tables)):
        raise InputError(
            "An average takes one part or more, with the same seeds, and clusters for each of them."
        )
    generator = np.random.default_rng(seed)
    drawn = _draw_counts(generator, samples, len(tables[0]))
    labels = [None] * len(tables) if clusters is None else clusters
    means = [_part_means(generator, drawn, *pair) for pair in zip(tables, labels, strict=True)]
    return _percentiles(np.mean(means, axis=0), level)


def paired_test(
    a: ArrayLike,
    b: ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    flips: int = 10_000,
    seed: int = 0,
) -> float:
    """Two-sided p-value of "a and b differ in the mean by chance", by flipping the signs of differences.

    Differences are averaged over seeds ([S, Q] values), summed within clusters, and each cluster's sign is
    flipped at random; with at most `flips` possible assignments all of them are tried (the exact test).
    Otherwise p = (1 + as extreme) / (1 + flips), which is never 0 (Phipson and Smyth, 2010).

    Raises:
        InputError: a and b differ in shape, or as in `bootstrap_interval`; `flips` is below 1.
    """
    left, right = _table(a), _table(b)
    if left.shape != right.shape or flips < 1:
        raise InputError(
            f"A paired test takes values of one shape and flips from 1 up, not {list(left.shape)} and "
            f"{list(right.shape)} with {flips} flips."
        )
    groups, sizes = _groups(clusters, left.shape[1])
    differences = _sums(left - right, groups, len(sizes)).mean(axis=0)
    observed = abs(differences.sum()) * _EQUAL
    exact = 2 ** len(differences) <= flips if len(differences) < 63 else False
    generator = np.random.default_rng(seed)
    signs = _all_signs(len(differences)) if exact else _random_signs(generator, flips, len(differences))
    extreme = sum(int((np.abs(block @ differences) >= observed).sum()) for block in signs)
    return extreme / 2 ** len(differences) if exact else (1 + extreme) / (1 + flips)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values (1979), in the order given.

    Raises:
        InputError: a value is not between 0 and 1.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"P-values lie between 0 and 1, not {list(p_values)}.")
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


def _check_bootstrap(samples: int, level: float) -> None:
    if samples < 1 or not 0 < level < 1:
        raise InputError(
            f"A bootstrap takes samples from 1 up and a level between 0 and 1, not {samples} and {level}."
        )


def _percentiles(means: Values, level: float) -> tuple[float, float]:
    """The ends of the interval that holds a share `level` of the resampled means."""
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _table(values: ArrayLike) -> Values:
    """Values as a finite float64 table [S, Q]."""
    table = np.asarray(values, dtype=np.float64)
    table = table[None] if table.ndim == 1 else table
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        raise InputError(
            f"Values are finite numbers [Q] or [S, Q]: {list(np.shape(values))} is empty or has gaps."
        )
    return table


def _groups(clusters: Sequence[Hashable] | None, queries: int) -> tuple[NDArray[np.int64], Values]:
    """The group of each query, int64 [Q], and each group's size, float64 [C]."""
    labels = range(queries) if clusters is None else clusters
    if len(labels) != queries:
        raise InputError(
            f"There are {len(labels)} clusters but {queries} queries: give each query's cluster."
        )
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    groups = np.array([numbers[label] for label in labels], dtype=np.int64)
    return groups, np.bincount(groups).astype(np.float64)


def _sums(table: Values, groups: NDArray[np.int64], count: int) -> Values:
    """Sum of each seed's values within each group, float64 [S, C]."""
    return np.stack([np.bincount(groups, weights=row, minlength=count) for row in table])


def _batches(total: int, width: int) -> Iterator[int]:
    """Sizes that add up to `total`, each small enough for `width` numbers a draw."""
    size = max(1, _DRAWS_AT_A_TIME // width)
    for start in range(0, total, size):
        yield min(size, total - start)


def _resampled_means(generator: np.random.Generator, sums: Values, sizes: Values, count: int) -> Values:
    """Means of `count` resamples of seeds (rows) and groups (columns), float64 [count]."""
    seeds = _draw_counts(generator, count, len(sums))
    return _means(seeds, _draw_counts(generator, count, len(sizes)), sums, sizes)


def _part_means(
    generator: np.random.Generator, seeds: Values, table: Values, clusters: Sequence[Hashable] | None
) -> Values:
    """Means of one part's table [S, Q] under drawn seeds [n, S] and n resamples of its groups, float64 [n]."""
    groups, sizes = _groups(clusters, table.shape[1])
    sums = _sums(table, groups, len(sizes))
    starts = np.cumsum([0, *_batches(len(seeds), len(sizes))])
    blocks = [seeds[start:end] for start, end in pairwise(starts)]
    drawn = ((block, _draw_counts(generator, len(block), len(sizes))) for block in blocks)
    return np.concatenate([_means(block, counts, sums, sizes) for block, counts in drawn])


def _means(seeds: Values, groups: Values, sums: Values, sizes: Values) -> Values:
    """The mean of each resample: seeds [n, S] and groups [n, C] say how often each is drawn; sums [S, C]."""
    totals = ((seeds @ sums) * groups).sum(axis=1)
    means: Values = totals / (len(sums) * (groups @ sizes))
    return means


def _draw_counts(generator: np.random.Generator, count: int, items: int) -> Values:
    """How often each item is drawn in `items` draws with replacement, float64 [count, items]."""
    draws = generator.integers(items, size=(count, items)) + items * np.arange(count)[:, None]
    return np.bincount(draws.ravel(), minlength=count * items).reshape(count, items).astype(np.float64)


def _random_signs(generator: np.random.Generator, flips: int, items: int) -> Iterator[Values]:
    for count in _batches(flips, items):
        yield generator.integers(0, 2, size=(count, items), dtype=np.int8).astype(np.float64) * 2 - 1


def _all_signs(items: int) -> Iterator[Values]:
    numbers = np.arange(2**items)[:, None]
    yield (numbers >> np.arange(items) & 1).astype(np.float64) * 2 - 1
