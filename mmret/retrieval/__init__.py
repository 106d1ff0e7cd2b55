"""Vectors, ids and judgements: store, index, search, runs, metrics, statistics.

This room knows no model, image or dataset. Importing it brings numpy only: FAISS and torch are imported when
an index is built on them.
"""

from mmret.retrieval.evaluate import Evaluation, evaluate
from mmret.retrieval.index import Index
from mmret.retrieval.metrics import Metric, metric
from mmret.retrieval.run import Run
from mmret.retrieval.search import search
from mmret.retrieval.statistics import bootstrap_interval, holm, paired_test
from mmret.retrieval.store import EmbeddingStore

__all__ = [
    "EmbeddingStore",
    "Evaluation",
    "Index",
    "Metric",
    "Run",
    "bootstrap_interval",
    "evaluate",
    "holm",
    "metric",
    "paired_test",
    "search",
]
