"""Metrics as values: `metric("ndcg@10")` prints, reads from YAML and compares as the text it was made from.

Every family is one function of integer arrays (see `Relevance`). Definitions that differ under one name in
the literature are different metrics here:

    recall@k          share of the relevant documents found
    success@k         any found (the "Recall@K" of composed image retrieval)
    success_target@k  success on the best-graded document alone (CIRCO's Recall@K, on its single target)
    ndcg@k            linear gain over log2(rank + 1), by the ideal ranking's (trec_eval's ndcg_cut)
    map@k             average precision over all relevant documents (trec_eval's map_cut)
    map@k (÷ min)     average precision over min(k, relevant) (CIRCO's mAP@K)
    mrr@k             1 / rank of the first relevant document
    success_subset@k  success in the run over the query's own pool (CIRR's Recall_subset@K)
    answer_accuracy@k any of the first k documents holds an answer: the top-k accuracy of open-domain question
                      answering (DPR, Wiki-SS). Relevant is what the text of a ranked document says, not a judgement
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mmret.errors import InputError
from mmret.retrieval.checks import Integers

Values: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Relevance:
    """A run seen through the judgements.

    Attributes:
        gains: int64 [Q, K], the judged gain of the document at each rank; 0 where it is not relevant.
        ideal: int64 [Q, I], the gains of each query's relevant documents, falling, padded with 0.
        relevant: int64 [Q], how many documents are relevant, at least 1 (any number where answers decide).
    """

    gains: Integers
    ideal: Integers
    relevant: Integers

    def hits(self, k: int) -> NDArray[np.bool_]:
        """Whether the document at each of the first k ranks is relevant, bool [Q, min(k, K)]."""
        return np.asarray(self.gains[:, :k] > 0)


def recall(relevance: Relevance, k: int) -> Values:
    """Share of the relevant documents among the first k."""
    share: Values = relevance.hits(k).sum(axis=1) / relevance.relevant
    return share


def success(relevance: Relevance, k: int) -> Values:
    """1 if any of the first k is relevant, else 0."""
    found: Values = np.asarray(relevance.hits(k).any(axis=1), dtype=np.float64)
    return found


def success_target(relevance: Relevance, k: int) -> Values:
    """1 if a document of the query's best grade is among the first k, else 0."""
    found: Values = np.asarray(
        (relevance.gains[:, :k] == relevance.ideal[:, :1]).any(axis=1), dtype=np.float64
    )
    return found


def ndcg(relevance: Relevance, k: int) -> Values:
    """Discounted cumulative gain over the best one possible, both at k."""
    quotient: Values = _discounted(relevance.gains[:, :k]) / _discounted(relevance.ideal[:, :k])
    return quotient


def average_precision(relevance: Relevance, k: int) -> Values:
    """Sum of the precisions at relevant ranks up to k, over all relevant documents."""
    share: Values = _precision_sum(relevance, k) / relevance.relevant
    return share


def average_precision_min(relevance: Relevance, k: int) -> Values:
    """Sum of the precisions at relevant ranks up to k, over the most there could be."""
    share: Values = _precision_sum(relevance, k) / np.minimum(k, relevance.relevant)
    return share


def reciprocal_rank(relevance: Relevance, k: int) -> Values:
    """1 / rank of the first relevant document, 0 if none is among the first k."""
    best: Values = (relevance.hits(k) / _ranks(relevance.gains[:, :k])).max(axis=1, initial=0.0)
    return best


def _ranks(gains: Integers) -> Integers:
    return np.arange(1, gains.shape[1] + 1)


def _discounted(gains: Integers) -> Values:
    total: Values = np.asarray(gains @ (1.0 / np.log2(_ranks(gains) + 1)))
    return total


def _precision_sum(relevance: Relevance, k: int) -> Values:
    hits = relevance.hits(k)
    total: Values = (hits * hits.cumsum(axis=1) / _ranks(relevance.gains[:, :k])).sum(axis=1)
    return total


@dataclass(frozen=True)
class Family:
    """What a metric's name stands for: its function, whether it looks at the run over each pool, or at answers."""

    function: Callable[[Relevance, int], Values]
    subset: bool = False
    answers: bool = False


FAMILIES = {
    "recall@{k}": Family(recall),
    "success@{k}": Family(success),
    "success_target@{k}": Family(success_target),
    "ndcg@{k}": Family(ndcg),
    "map@{k}": Family(average_precision),
    "map@{k} (÷ min)": Family(average_precision_min),
    "mrr@{k}": Family(reciprocal_rank),
    "success_subset@{k}": Family(success, subset=True),
    "answer_accuracy@{k}": Family(success, answers=True),
}


@dataclass(frozen=True, repr=False)
class Metric:
    """One metric at one depth. `str` and `repr` are the text that `metric` takes.

    Attributes:
        pattern: a key of `FAMILIES`.
        k: how many ranks count, at least 1.
    """

    pattern: str
    k: int

    def __str__(self) -> str:
        return self.pattern.format(k=self.k)

    __repr__ = __str__

    @property
    def subset(self) -> bool:
        """Whether it looks at the run over each query's pool."""
        return FAMILIES[self.pattern].subset

    @property
    def answers(self) -> bool:
        """Whether it looks at documents that hold an answer."""
        return FAMILIES[self.pattern].answers

    def __call__(self, relevance: Relevance) -> Values:
        """The metric of every query, float64 [Q], from 0 to 1."""
        return FAMILIES[self.pattern].function(relevance, self.k)


def metric(text: str) -> Metric:
    """The metric of this name, such as "recall@10" or "map@5 (÷ min)".

    Raises:
        InputError: no family of that name, or k is no whole number from 1 up.
    """
    parts = re.fullmatch(r"([a-z_]+@)([1-9][0-9]*)(.*)", str(text))
    pattern = f"{parts[1]}{{k}}{parts[3]}" if parts else ""
    if parts is None or pattern not in FAMILIES:
        known = ", ".join(name.format(k="k") for name in FAMILIES)
        raise InputError(f"There is no metric {text!r}: name one of {known}, with a number from 1 up for k.")
    return Metric(pattern, int(parts[2]))
