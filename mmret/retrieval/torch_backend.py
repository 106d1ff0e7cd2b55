"""Exact search as a torch matrix product and top-k, in chunks, on the CPU or a CUDA device.

With `prefilter`, vectors are first compared in bfloat16, twice as many candidates as asked for are taken and
scored again in float32. A bound on bfloat16's error, from the rounding errors of the vectors at hand, then
proves for each query that nothing outside the candidates belongs into the answer; queries for which it does
not are searched again in float32. So the answer is the exact one either way.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mmret.errors import InputError
from mmret.retrieval.checks import Floats, Integers

_QUERY_CHUNK = 512
_SCORES_AT_A_TIME = {"cpu": 2**22, "cuda": 2**27}  # elements of one score matrix: 16 MB, 512 MB
_OVERFETCH, _OVERFETCH_LEAST = 2, 64
_BF16_ROUNDING = 2.0**-8  # of a score stored with 8 significant bits; twice the half unit, for safety


@contextmanager
def full_precision() -> Iterator[None]:
    """Float32 products without TF32, bfloat16 ones summed in float32; the settings are put back."""
    matmuls = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [matmul.fp32_precision for matmul in matmuls]
    reduced = torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
    try:
        for matmul in matmuls:
            matmul.fp32_precision = "ieee"
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        yield
    finally:
        for matmul, precision in zip(matmuls, before, strict=True):
            matmul.fp32_precision = precision
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = reduced


class TorchExact:
    """Exact search over a gallery held on one torch device."""

    exact = True
    deepest: int | None = None

    def __init__(self, vectors: Floats, device: str, *, prefilter: bool | None = None) -> None:
        """Hold `vectors` [n, D] on `device` ("cpu" or "cuda"); `prefilter` is on by default on CUDA alone.

        Raises:
            InputError: torch sees no CUDA device.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError(
                "torch sees no GPU here: use device='cpu', or device='auto' to take one if there is."
            )
        # A store's memory map is read-only, which torch cannot express: such an array is copied.
        self._gallery = torch.from_numpy(vectors if vectors.flags.writeable else vectors.copy()).to(device)
        self._chunk = max(1, _SCORES_AT_A_TIME[device] // _QUERY_CHUNK)
        self._coarse: Tensor | None = None
        if device == "cuda" if prefilter is None else prefilter:
            self._coarse = self._gallery.bfloat16()
            self._largest, self._largest_rounding = _largest_norms(self._gallery, self._coarse)

    @torch.inference_mode()
    def top(self, queries: Floats, depth: int) -> tuple[Floats, Integers]:
        """Inner products and rows of the `depth` best vectors a query, both [Q, depth], best first."""
        found = []
        with full_precision():
            for block in torch.split(torch.from_numpy(queries), _QUERY_CHUNK):
                found.append(self._block_top(block.to(self._gallery.device), depth))
        scores, rows = (torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True))
        return scores, rows

    def _block_top(self, queries: Tensor, depth: int) -> tuple[Tensor, Tensor]:
        candidates = max(_OVERFETCH * depth, depth + _OVERFETCH_LEAST)
        if self._coarse is None or candidates >= len(self._gallery):
            return self._scan(queries, self._gallery, depth)
        scores, rows, proven = self._prefiltered(queries, self._coarse, depth, candidates)
        if not proven.all():
            scores[~proven], rows[~proven] = self._scan(queries[~proven], self._gallery, depth)
        return scores, rows

    def _prefiltered(
        self, queries: Tensor, gallery: Tensor, depth: int, candidates: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The best rescored candidates, and whether no other vector is proven [Q] to belong to them."""
        coarse = queries.bfloat16()
        coarse_scores, coarse_rows = self._scan(coarse, gallery, candidates)
        exact = self._exact_scores(queries, coarse_rows)
        scores, order = exact.topk(depth)
        # |<q, v> - <q', v'>| <= |q - q'| |v| + |q'| |v - v'| (Cauchy-Schwarz), plus the score's own rounding
        # and the rounding of the sums, which is some hundred times smaller than that.
        rounding = (queries - coarse.float()).norm(dim=1)
        bound = rounding * self._largest + coarse.float().norm(dim=1) * self._largest_rounding
        last = coarse_scores[:, -1]
        proven = last + bound + _BF16_ROUNDING * (last.abs() + bound) < scores[:, -1]
        return scores, coarse_rows.gather(1, order), proven

    def _exact_scores(self, queries: Tensor, rows: Tensor) -> Tensor:
        """Float32 products of each query [q, D] with its own rows [q, m] of the gallery: [q, m]."""
        at_a_time = max(1, self._chunk * _QUERY_CHUNK // (rows.shape[1] * queries.shape[1]))
        parts = [
            torch.bmm(self._gallery[some], query.unsqueeze(2)).squeeze(2)
            for query, some in zip(torch.split(queries, at_a_time), torch.split(rows, at_a_time), strict=True)
        ]
        return torch.cat(parts)

    def _scan(self, queries: Tensor, gallery: Tensor, depth: int) -> tuple[Tensor, Tensor]:
        """The `depth` best of the whole gallery, merged over chunks of it; scores come back as float32."""
        best = queries.new_empty((len(queries), 0), dtype=torch.float32)
        rows = torch.empty_like(best, dtype=torch.int64)
        for start in range(0, len(gallery), self._chunk):
            scores = queries @ gallery[start : start + self._chunk].T
            new, places = scores.topk(min(depth, scores.shape[1]))
            merged = torch.cat([best, new.float()], dim=1)
            best, order = merged.topk(min(depth, merged.shape[1]))
            rows = torch.cat([rows, places + start], dim=1).gather(1, order)
        return best, rows


def _largest_norms(gallery: Tensor, coarse: Tensor) -> tuple[float, float]:
    """The longest vector, and the longest difference between a vector and its bfloat16 rounding."""
    longest = difference = 0.0
    for exact, rounded in zip(torch.split(gallery, 65_536), torch.split(coarse, 65_536), strict=True):
        longest = max(longest, float(exact.norm(dim=1).max()))
        difference = max(difference, float((exact - rounded.float()).norm(dim=1).max()))
    return longest, difference
