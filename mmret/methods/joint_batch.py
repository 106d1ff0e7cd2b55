"""The queries and pages of all devices as one batch, and which pages answer which queries there."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from hashlib import blake2b

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmret.backbones.base import Features, TokenVectors
from mmret.data.batches import QueryPageBatch
from mmret.losses import cosines, late_interaction
from mmret.methods.gathering import first_row, gather_uneven, largest


def hashed(ids: Iterable[str]) -> Tensor:
    """Ids as int64 [n], the same on every device, in every process and on every day.

    Collectives carry tensors: texts would go through pickle and the computer's memory at every step. Of a million ids
    two share 64 bits once in 37 million trainings; they would then be taken for one page.
    """
    digests = (blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest() for name in ids)
    return torch.tensor([int.from_bytes(d, "little", signed=True) for d in digests], dtype=torch.int64)


@dataclass(frozen=True)
class JointBatch:
    """Q queries and N pages, with the features that a backbone gave.

    Attributes:
        queries: [Q, D], or [Q, S, D] with rows of zeros where a query has fewer vectors.
        pages: [N, D] or [N, T, D], likewise.
        own: int64 [Q], the row of each query's own page.
        query_ids, page_ids: int64 [Q] and [N], `hashed`.
        answers: int64 [R, 2], (row of a query, id of a page that answers it); its own page's is among them.
    """

    queries: Tensor
    pages: Tensor
    own: Tensor
    query_ids: Tensor
    page_ids: Tensor
    answers: Tensor

    def cpu(self) -> "JointBatch":
        """The batch in the computer's own memory, without a graph."""
        return JointBatch(
            **{field.name: getattr(self, field.name).detach().cpu() for field in fields(JointBatch)}
        )

    def similarities(self, width: int | None = None) -> Tensor:
        """Float32 [Q, N], of the first `width` numbers of each vector."""
        score = cosines if self.queries.ndim == 2 else late_interaction
        return score(self.queries[..., :width], self.pages[..., :width])

    @cached_property
    def known(self) -> Tensor:
        """Bool [Q, N]: which pages are known to answer a query."""
        rows, pages = (self.answers[:, 1:] == self.page_ids).nonzero(as_tuple=True)
        found = torch.zeros(len(self.queries), len(self.pages), dtype=torch.bool, device=self.pages.device)
        found[self.answers[rows, 0], pages] = True
        return found

    @cached_property
    def known_others(self) -> Tensor:
        """Bool [Q, N]: the same less each query's own page."""
        return self.known.scatter(1, self.own[:, None], False)

    @cached_property
    def siblings(self) -> Tensor:
        """Bool [Q, Q]: other queries for the same page."""
        return (self.own[:, None] == self.own).fill_diagonal_(False)


def join(module: LightningModule, queries: Features, pages: Features, batch: QueryPageBatch) -> JointBatch:
    """One batch of all devices' features; the gradient reaches every device's own part. Devices may differ in size.

    Args:
        module: In training, whose trainer knows the devices.
        queries: Float32 [B, D] of this device's B queries, or `TokenVectors` of as many.
        pages: [P, D] of its P pages, or `TokenVectors`; in the order of `batch["page_ids"]`.
        batch: What they were encoded from.

    Raises:
        ValueError: `own` or `relevant` of the batch are more or fewer than its queries.
    """
    rows, columns = _rows(module, queries), _rows(module, pages)
    own = torch.tensor(_own(batch), dtype=torch.int64, device=rows.device) + first_row(module, columns)
    answers = _answers(batch).to(rows.device)
    answers[:, 0] += first_row(module, rows)
    query_ids, page_ids = hashed(batch["query_ids"]), hashed(batch["page_ids"])
    return JointBatch(
        gather_uneven(module, rows, sync_grads=True),
        gather_uneven(module, columns, sync_grads=True),
        gather_uneven(module, own),
        gather_uneven(module, query_ids.to(rows.device)),
        gather_uneven(module, page_ids.to(rows.device)),
        gather_uneven(module, answers),
    )


def _own(batch: QueryPageBatch) -> list[int]:
    """The row of each query's own page on this device."""
    return batch.get("own", list(range(len(batch["queries"]))))


def _answers(batch: QueryPageBatch) -> Tensor:
    """(query's row, hashed page id) for each page that answers a query of this device."""
    known = [
        {batch["page_ids"][own], *others} for own, others in zip(_own(batch), batch["relevant"], strict=True)
    ]
    rows = torch.tensor([row for row, ids in enumerate(known) for _ in ids], dtype=torch.int64)
    return torch.stack([rows, hashed(name for ids in known for name in sorted(ids))], dim=1)


def _rows(module: LightningModule, features: Features) -> Tensor:
    """[B, D] as it is; several vectors an input as [B, T, D], T the largest of all devices, padded by zeros."""
    if not isinstance(features, TokenVectors):
        return features
    padded = pad_sequence(list(torch.split(features.vectors, features.lengths.tolist())), batch_first=True)
    return F.pad(padded, (0, 0, 0, largest(module, padded.shape[1]) - padded.shape[1]))
