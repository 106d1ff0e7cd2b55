"""Which documents no setting of a region can bring into the top k.

**Claim.** Let H be a polygon of settings σ = (β, γ), T any k documents, s_n(σ) the score of document n, and
g(σ) = min over m in T of s_m(σ). If s_n(v) < g(v) at every vertex v of H, then n is in the top k of no
setting in H.

**Proof.** Every s_n(σ) is linear in σ (see `grid`). So g, a minimum of linear functions, is concave, and
s_n − g is convex. A convex function on a polygon takes its maximum at a vertex. It is negative at every
vertex, hence in all of H: at each setting all k documents of T score strictly higher than n. ∎

T may be chosen freely, so it is chosen well: the top k at the centre of H. A large region prunes little, a
small one leaves little more than k documents; so the settings are split into a tree of shrinking rectangles,
and each rectangle looks only at the survivors of the one that holds it.

Scores are compared in float32. A document is dropped only if it falls short by more than the error of that
comparison (`slack`), so that no dropped document could have reached the top k by rounding either.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmret.composition.grid import weights

LEAF_SETTINGS = 12
"""A rectangle of so few settings is not split further: ranking its survivors costs less than pruning on."""

ENOUGH = 3
"""Nor is one whose survivors are at most this many times k."""


@dataclass(frozen=True)
class Region:
    """A rectangle of settings.

    Attributes:
        settings: int64 [s], the settings within.
        corners: float32 [c ≤ 4, 3], the weights at its corners.
        children: two halves, or none.
    """

    settings: NDArray[np.int64]
    corners: NDArray[np.float32]
    children: tuple[Region, ...]


COLUMNS = 16_384
"""Documents looked at in one step: few enough for the cache, and for BLAS not to start threads."""


def region_tree(beta: NDArray[np.float64], gamma: NDArray[np.float64]) -> Region:
    """The tree of rectangles over settings β [S], γ [S]: each is cut at the median of its longer side."""
    return _region(np.arange(len(beta)), np.stack([beta, gamma], axis=1))


def _region(settings: NDArray[np.int64], points: NDArray[np.float64]) -> Region:
    """The rectangle around some of the points [S, 2], with its halves."""
    own = points[settings]
    low, high = own.min(axis=0), own.max(axis=0)
    box = np.array([(b, g) for b in {low[0], high[0]} for g in {low[1], high[1]}])
    corners = weights(box[:, 0], box[:, 1]).astype(np.float32)
    if len(settings) <= LEAF_SETTINGS or not (high > low).any():
        return Region(settings, corners, ())
    along = own[:, int(np.argmax(high - low))]
    left = along < np.median(along)
    if not left.any():  # the lower half is one value: cut behind it
        left = along <= along.min()
    halves = (settings[left], settings[~left])
    return Region(settings, corners, tuple(_region(half, points) for half in halves))


def survivors(
    region: Region, similarities: NDArray[np.float32], k: int, slack: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Cut a tree into regions, each with all documents that any of its settings can rank among the first k.

    Args:
        region: the root.
        similarities: float32 [3, M], of the documents to V_ref, T_ref and T_comp.
        k: depth of the rankings.
        slack: the error of a difference of two similarities.

    Yields:
        (settings int64 [s], documents int64 [m ascending]): every setting once.
    """
    pending = [(region, np.arange(similarities.shape[1]), similarities)]
    while pending:
        region, documents, scores = pending.pop()
        kept = _kept(region.corners, scores, k, slack)
        documents, scores = documents[kept], scores.take(kept, axis=1)
        if not region.children or len(documents) <= ENOUGH * k:
            yield region.settings, documents
        else:
            pending += [(child, documents, scores) for child in region.children]


def _kept(
    corners: NDArray[np.float32], similarities: NDArray[np.float32], k: int, slack: float
) -> NDArray[np.int64]:
    """The columns of `similarities` [3, M] that the claim does not rule out, ascending."""
    count = similarities.shape[1]
    if count <= k:
        return np.arange(count)
    middle = corners.mean(axis=0)
    blocks = range(0, count, COLUMNS)
    centre = np.concatenate([middle @ similarities[:, start : start + COLUMNS] for start in blocks])
    best = np.argpartition(centre, count - k)[count - k :]
    at_corners = corners @ similarities.take(best, axis=1)
    floor = at_corners.min(axis=1) - slack * np.abs(corners).sum(axis=1)
    kept = [
        start
        + np.flatnonzero((corners @ similarities[:, start : start + COLUMNS] >= floor[:, None]).any(axis=0))
        for start in blocks
    ]
    return np.concatenate(kept)
