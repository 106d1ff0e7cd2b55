"""LDRE's ensemble of edited captions (Yang et al., SIGIR 2024): a weighted mean whose weights ask the gallery.

LDRE captions every reference fifteen times and edits every caption. Its weights belong to the caption's number i,
not to a query: how far edit i lowers similarities, over all queries. For each query the `top` largest drops
max(0, before − after) in the gallery are added, then the queries' sums v_i; the weights are softmax(v / max v / τ).
What comes out is one vector a query, so PDV acts on it; T_ref is the mean of the captions under the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mmret.composition.caption_edit import CaptionEdits
from mmret.composition.encoding import TextBackbone, encode_texts
from mmret.composition.features import ComposedFeatures, QueryBatch, l2_normalise
from mmret.composition.scores import Doubles, Floats, Surroundings
from mmret.errors import InputError

DROPS_AT_A_TIME = 2**25
"""Drops of one block, float32: 128 MB."""


@dataclass(frozen=True, eq=False)
class CaptionEnsemble:
    """All captions and all edits of each query, before their weights are known.

    Attributes:
        reference_image: [B, D].
        before: [B, C, D], the reference's C captions, L2-normalised each.
        after: [B, C, D], their edits, likewise.
        temperature, top: See `LDRE`.
    """

    reference_image: Tensor
    before: Tensor
    after: Tensor
    temperature: float
    top: int

    def __len__(self) -> int:
        return len(self.after)

    def settle(self, surroundings: Surroundings) -> ComposedFeatures:
        """The weighted means, with weights from the drops in this gallery."""
        drops = similarity_drops(self.before, self.after, surroundings.index.vectors, self.top)
        weights = torch.from_numpy(ensemble_weights(drops, self.temperature)).to(self.after)[:, None]
        return ComposedFeatures(
            self.reference_image, (weights * self.before).sum(dim=1), (weights * self.after).sum(dim=1)
        )


def similarity_drops(before: Tensor, after: Tensor, gallery: Floats, top: int) -> Doubles:
    """v, float64 [C]: the `top` largest drops max(0, before − after) of each query in the gallery, summed.

    Args:
        before, after: [B, C, D], L2-normalised.
        gallery: [N, D], L2-normalised.
        top: How many drops of a query and a caption count; at most N.
    """
    falls = (before - after).detach().float().cpu().numpy()  # a difference of similarities is one product
    kept = min(top, len(gallery))
    block = max(1, DROPS_AT_A_TIME // len(gallery))
    totals = np.zeros(falls.shape[1])
    for caption in range(falls.shape[1]):
        for start in range(0, len(falls), block):
            drops = falls[start : start + block, caption] @ gallery.T
            largest = np.partition(drops, len(gallery) - kept, axis=1)[:, len(gallery) - kept :]
            totals[caption] += np.maximum(largest, 0).sum(dtype=np.float64)
    return totals


def ensemble_weights(drops: Doubles, temperature: float) -> Doubles:
    """softmax(v / max v / τ), float64 [C]; equal weights where no edit lowers any similarity."""
    largest = drops.max()
    logits = drops / largest / temperature if largest > 0 else np.zeros_like(drops)
    raised = np.exp(logits - logits.max())
    weights: Doubles = raised / raised.sum()
    return weights


class LDRE:
    """LDRE's captions and edits from a file, weighted by the drops in similarity that the edits cause.

    Args:
        captions: Path of a JSON file, or its content, with the same number of captions and edits for every query;
            the layouts are those of `CaptionEdits.parse`.
        temperature: τ; .04 in the official code.
        top: Drops of a query that count; 5 in the official code, which calls 5 to 50 equally good.
        ids: Query ids in the order of parallel lists, where the file has none.

    Raises:
        InputError: if the file cannot be read, a record is incomplete, or an option is out of range.
    """

    name: ClassVar[str] = "ldre"
    takes_pdv: ClassVar[bool] = True

    def __init__(
        self,
        captions: str | Path | Mapping[str, Any] | Sequence[Any],
        temperature: float = 0.04,
        top: int = 5,
        ids: Sequence[str] | None = None,
    ) -> None:
        if not temperature > 0 or top < 1:
            raise InputError(f"ldre has the temperature {temperature} and top {top}; both are above 0.")
        self.edits = CaptionEdits.load(captions, ids)
        self.temperature, self.top = temperature, top

    @torch.no_grad()
    def __call__(self, backbone: TextBackbone, batch: QueryBatch) -> CaptionEnsemble:
        """Every caption and every edit, encoded as they stand.

        Raises:
            InputError: naming every query without captions, with another query's, or with another number of them.
        """
        self.edits.check(batch.ids, batch.texts)
        self._check_counts(batch.ids)
        pairs = [self.edits.pairs[query_id] for query_id in batch.ids]
        before = torch.stack(encode_texts(backbone, [pair.reference for pair in pairs]))
        after = torch.stack(encode_texts(backbone, [pair.composed for pair in pairs]))
        image = l2_normalise(batch.reference_image.to(after.device))
        return CaptionEnsemble(image, l2_normalise(before), l2_normalise(after), self.temperature, self.top)

    def _check_counts(self, query_ids: Sequence[str]) -> None:
        """Caption i of one query is weighed with caption i of every other, so all need the same number."""
        counts = {name: (len(pair.reference), len(pair.composed)) for name, pair in self.edits.pairs.items()}
        wanted = max(counts.values())
        odd = [name for name in query_ids if counts[name] != wanted or wanted[0] != wanted[1]]
        if odd:
            raise InputError(
                f"{self.edits.where} has captions and edits in another number than {wanted[0]} and {wanted[0]} for "
                f"{len(odd)} of {len(query_ids)} queries ({', '.join(odd[:10])}); ldre weighs caption by caption, "
                "so complete them or use caption-edit."
            )

    def describe(self) -> dict[str, Any]:
        """Name, options, the captions' file name and a digest of their content."""
        options = {"temperature": self.temperature, "top": self.top}
        return {"name": self.name, **options, "captions": self.edits.where, "sha256": self.edits.digest()}
