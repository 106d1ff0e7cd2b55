"""Every setting of PDV from three similarity matrices, with the rankings that separate searches give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from mmret.composition.features import ComposedFeatures
from mmret.composition.grid import PAPER_GRID, distinct, knobs, weights
from mmret.composition.pdv import PDV
from mmret.composition.pruning import Region, region_tree, survivors
from mmret.composition.scores import Gallery
from mmret.errors import InputError

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

SIMILARITY_BYTES = 2**28
"""Memory for the similarities of one block of queries; a block holds at least one query."""

GALLERY_BLOCK = 65_536
"""Documents multiplied at a time, which bounds the copy that a memory-mapped gallery needs."""

VANISHED = 1e-6
"""PDV-F shorter than this, relative to its weights, is rounding noise: it scores every document 0."""

UNIT_ROUNDOFF = float(np.finfo(np.float32).eps) / 2


@dataclass(frozen=True)
class QueryRankings:
    """One query's ranking under each of S settings.

    Attributes:
        query_id: the query.
        indices: int64 [S, k], rows of the gallery, best first; −1 where there are fewer than k candidates.
        scores: float32 [S, k], cosine similarities to PDV-F; −inf where `indices` is −1.
    """

    query_id: str
    indices: Integers
    scores: Floats


@dataclass(frozen=True, eq=False, repr=False)
class Sweep:
    """The rankings of all settings, made query by query as they are iterated over. Made by `sweep`.

    Attributes:
        gallery: what is searched.
        query_ids: Q queries.
        features: their features.
        settings: S settings, no two of which rank alike.
        beta: float64 [S].
        gamma: float64 [S, Q] (see `mmret.composition.grid`).
        k: depth of the rankings.
        candidates: query id → rows of the gallery it ranks, in ascending order of id; absent: all of them.
    """

    gallery: Gallery
    query_ids: tuple[str, ...]
    features: ComposedFeatures
    settings: tuple[PDV, ...]
    beta: Doubles
    gamma: Doubles
    k: int
    candidates: Mapping[str, Integers]

    def __len__(self) -> int:
        """The number of queries."""
        return len(self.query_ids)

    def __repr__(self) -> str:
        return f"Sweep({len(self.settings):,} settings, {len(self):,} queries, k={self.k})"

    def __iter__(self) -> Iterator[QueryRankings]:
        """The rankings, one query at a time, in bounded memory."""
        block = max(1, SIMILARITY_BYTES // (12 * len(self.gallery.ids)))
        for start in range(0, len(self), block):
            similarities = self._similarities(slice(start, start + block))
            for offset in range(similarities.shape[1]):
                yield self._rank(start + offset, similarities[:, offset])

    def by_setting(self) -> Iterator[tuple[PDV, Integers, Floats]]:
        """(setting, indices [Q, k], scores [Q, k]) of each setting; holds all at once, 12·S·Q·k bytes."""
        rankings = list(self)
        for row, setting in enumerate(self.settings):
            indices = np.stack([ranking.indices[row] for ranking in rankings])
            yield setting, indices, np.stack([ranking.scores[row] for ranking in rankings])

    @cached_property
    def _vectors(self) -> Floats:
        """V_ref, T_ref and T_comp of all queries, float32 [3, Q, D]."""
        own = self.features
        three = (own.reference_image, own.reference_text, own.composed_text)
        return np.stack([features.detach().float().cpu().numpy() for features in three])

    @cached_property
    def _shared_tree(self) -> Region | None:
        """The tree of settings if it is the same for all queries, that is without an automatic α_image."""
        same = bool((self.gamma == self.gamma[:, :1]).all())
        return region_tree(self.beta, self.gamma[:, 0]) if same else None

    def _similarities(self, queries: slice) -> Floats:
        """The similarities of a block of queries to all documents, float32 [3, b, N]."""
        own = self._vectors[:, queries]
        stacked = own.reshape(-1, own.shape[2])  # one product of a large matrix, not three of smaller ones
        similarities = np.empty((len(stacked), len(self.gallery.ids)), np.float32)
        for start in range(0, len(self.gallery.ids), GALLERY_BLOCK):
            documents = self.gallery.vectors[start : start + GALLERY_BLOCK]
            similarities[:, start : start + GALLERY_BLOCK] = stacked @ documents.T
        return similarities.reshape(3, -1, len(self.gallery.ids))

    def _rank(self, query: int, similarities: Floats) -> QueryRankings:
        """All settings of one query, from its similarities [3, N]."""
        rows = self.candidates.get(self.query_ids[query], self.gallery.rows_by_id)
        # A float32 inner product of unit vectors is off by at most about √D unit roundoffs (Higham and Mary
        # 2019), on both sides of a comparison.
        slack = 2 * np.sqrt(self._vectors.shape[2]) * UNIT_ROUNDOFF
        tree = self._shared_tree or region_tree(self.beta, self.gamma[:, query])
        parts = list(survivors(tree, similarities.take(rows, axis=1), self.k, slack))
        union = np.unique(np.concatenate([columns for _, columns in parts]))
        exact = self._exact_similarities(query, rows[union])
        scale = self._weights(query)
        indices = np.full((len(self.settings), self.k), -1, np.int64)
        scores = np.full((len(self.settings), self.k), -np.inf, np.float32)
        for settings, columns in parts:
            places = np.searchsorted(union, columns)
            best, best_scores = top_k((scale[settings] @ exact[:, places]).astype(np.float32), self.k)
            depth = best.shape[1]
            indices[settings, :depth] = rows[columns[best]]
            scores[settings, :depth] = best_scores
        return QueryRankings(self.query_ids[query], indices, scores)

    def _exact_similarities(self, query: int, rows: Integers) -> Doubles:
        """The similarities [3, m] summed in float64, so that equal documents tie, as they do in a search."""
        documents = np.asarray(self.gallery.vectors[rows], np.float64)
        similarities: Doubles = self._vectors[:, query].astype(np.float64) @ documents.T
        return similarities

    def _weights(self, query: int) -> Doubles:
        """The weights [S, 3] of the similarities, divided by the norm of PDV-F (0 where it vanishes)."""
        raw = weights(self.beta, self.gamma[:, query])
        own = self._vectors[:, query].astype(np.float64)
        squares = ((raw @ (own @ own.T)) * raw).sum(axis=1, keepdims=True)
        norms = np.sqrt(np.maximum(squares, 0))
        present = norms > VANISHED * np.abs(raw).sum(axis=1, keepdims=True)
        scaled: Doubles = np.divide(raw, norms, out=np.zeros_like(raw), where=present)
        return scaled


def sweep(
    gallery: Gallery,
    query_ids: Iterable[str],
    features: ComposedFeatures,
    settings: Iterable[PDV] = PAPER_GRID,
    k: int = 50,
    *,
    exclude: Mapping[str, Sequence[str]] | None = None,
    pools: Mapping[str, Sequence[str]] | None = None,
) -> Sweep:
    """Rank the gallery under every setting, as `search` would rank it for the vectors of that setting.

    Rankings depend on two knobs (see `grid`), so nothing is encoded again and settings that coincide are
    dropped. Each query's similarities to V_ref, T_ref and T_comp are computed once; documents that no
    setting of a region can bring into the top k are dropped (see `pruning`, with the proof); the few hundred
    that are left are scored in float64. Equal scores stand in ascending order of document id. The norm of
    PDV-F is positive and changes no ranking; where PDV-F vanishes, all documents tie at 0.

    Args:
        gallery: documents with L2-normalised vectors [N, D].
        query_ids: Q ids.
        features: the three features of these queries, [Q, D].
        settings: the grid; `PAPER_GRID` by default.
        k: depth of the rankings.
        exclude: query id → documents never to return (a reference image); unknown ids are passed over.
        pools: query id (every query) → the only documents to rank.

    Returns:
        An iterable over the queries, in order. Nothing is computed before it is iterated over.

    Raises:
        InputError: if lengths or widths differ, there is no setting, k is below 1, a feature is zero or not
            finite, or a pool is missing or has an unknown document.
    """
    names, chosen = tuple(query_ids), distinct(settings)
    _check(gallery, names, features, chosen, k)
    beta, gamma = knobs(chosen, features)
    candidates = _candidates(gallery, names, exclude or {}, pools)
    return Sweep(gallery, names, features, chosen, beta, gamma, k, candidates)


def top_k(scores: Floats, k: int) -> tuple[Integers, Floats]:
    """Columns and scores of the k best of each row of `scores` [s, m], best first; equal ones by column.

    Score and column are packed into one integer, so that one sort of plain numbers orders by both.
    """
    bits = (scores + np.float32(0)).view(np.int32)  # adding 0 turns −0 into 0
    last = scores.shape[1] - 1
    keys = (_flip_negative(bits).astype(np.int64) << 32) | (last - np.arange(last + 1))
    if last >= k:
        keys = np.partition(keys, last + 1 - k, axis=1)[:, last + 1 - k :]
    keys = np.sort(keys, axis=1)[:, ::-1]
    return last - (keys & 0xFFFFFFFF), _flip_negative((keys >> 32).astype(np.int32)).view(np.float32)


def _flip_negative(bits: NDArray[np.int32]) -> NDArray[np.int32]:
    """Map the bits of float32 numbers to integers in the same order, and back: it is its own inverse."""
    flipped: NDArray[np.int32] = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return flipped


def _check(
    gallery: Gallery, names: tuple[str, ...], features: ComposedFeatures, settings: tuple[PDV, ...], k: int
) -> None:
    """Raise `InputError` for what `sweep` cannot work with."""
    if not names or len(names) != len(features) or len(set(names)) != len(names):
        raise InputError(
            f"a sweep needs distinct query ids, one per feature: {len(names)} and {len(features)}."
        )
    width = features.composed_text.shape[1]
    if gallery.vectors.shape != (len(gallery.ids), width):
        raise InputError(
            f"the gallery's vectors are {list(gallery.vectors.shape)}, the queries' features {width} wide; "
            "encode both with one backbone."
        )
    if not settings or k < 1:
        raise InputError(f"a sweep needs at least one setting and k ≥ 1; it got {len(settings)} and k = {k}.")
    three = torch.stack([features.reference_image, features.reference_text, features.composed_text])
    norms = three.norm(dim=-1)  # 1, but for zero vectors and those that are not finite
    sound = ((norms > 0) & norms.isfinite()).all(dim=0).tolist()
    broken = [name for name, good in zip(names, sound, strict=True) if not good]
    if broken:
        raise InputError(
            f"{len(broken)} queries have a zero or non-finite feature ({', '.join(broken[:5])})."
        )


def _candidates(
    gallery: Gallery,
    names: tuple[str, ...],
    exclude: Mapping[str, Sequence[str]],
    pools: Mapping[str, Sequence[str]] | None,
) -> dict[str, Integers]:
    """Query id → rows to rank, in ascending order of id, for queries that do not rank the whole gallery."""
    candidates = {}
    for name in names:
        if pools is not None:
            strangers = [document for document in pools.get(name, ()) if document not in gallery.positions]
            if strangers or not pools.get(name):
                raise InputError(
                    f"the pool of query {name!r} is empty or has unknown documents {strangers[:5]}."
                )
            rows = np.array([gallery.positions[document] for document in sorted(set(pools[name]))], np.int64)
        else:
            rows = gallery.rows_by_id
        banned = [
            gallery.positions[document] for document in exclude.get(name, ()) if document in gallery.positions
        ]
        if pools is not None or banned:
            candidates[name] = rows[~np.isin(rows, banned)]
    return candidates
