"""How well the queries of a validation find their pages among all of its pages."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmret.methods.joint_batch import JointBatch


def recalls(batches: Sequence[JointBatch], cutoffs: Sequence[int]) -> dict[int, float]:
    """The share of queries with a page that answers them among the first k of all batches' pages, by k.

    A query or a page that stands in several batches (a sampler pads the last one) counts once. Among equal
    similarities, a page that answers comes last.
    """
    if not batches:
        return {}
    queries, pages, answers = _together(batches)
    similarities = replace(batches[0], queries=queries, pages=pages).similarities()
    best = similarities.masked_fill(~answers, -torch.inf).amax(dim=1, keepdim=True)
    before = ((similarities >= best) & ~answers).sum(dim=1)
    return {k: (before < k).float().mean().item() for k in cutoffs}


def _together(batches: Sequence[JointBatch]) -> tuple[Tensor, Tensor, Tensor]:
    """Each query and each page once, and which answer which, bool [Q, N]."""
    page_ids, page_rows = _first_rows(torch.cat([batch.page_ids for batch in batches]))
    query_ids, query_rows = _first_rows(torch.cat([batch.query_ids for batch in batches]))
    answers = torch.zeros(len(query_ids), len(page_ids), dtype=torch.bool)
    for batch in batches:
        asked = torch.searchsorted(query_ids, batch.query_ids[batch.answers[:, 0]])
        rows, columns = (batch.answers[:, 1:] == page_ids).nonzero(as_tuple=True)
        answers[asked[rows], columns] = True
    queries = _stacked([batch.queries for batch in batches])
    pages = _stacked([batch.pages for batch in batches])
    return queries[query_rows], pages[page_rows], answers


def _first_rows(ids: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct ids, ascending, and the row of one of each."""
    distinct, places = torch.unique(ids, return_inverse=True)
    rows = torch.empty(len(distinct), dtype=torch.int64)
    rows[places] = torch.arange(len(ids))
    return distinct, rows


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """Rows of all parts; several vectors a row are padded by zeros to the longest."""
    return pad_sequence([row for part in parts for row in part], batch_first=True)
