"""Naive definitions that the vectorised ones are compared with: loops over dictionaries."""

import math

import numpy as np


def unit(vectors):
    exact = np.asarray(vectors, dtype=np.float32).astype(np.float64)
    return (exact / np.sqrt((exact * exact).sum(axis=1, keepdims=True))).astype(np.float32)


def ranking(query, ids, vectors, k, excluded=()):
    """The k best (id, score) of unit vectors: every score on its own in float64, rounded to float32."""
    scores = {
        name: np.float32(math.fsum(a * b for a, b in zip(query.tolist(), vector.tolist(), strict=True)))
        for name, vector in zip(ids, vectors, strict=True)
        if name not in excluded
    }
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:k]


def metric(name, k, ranked, judged):
    """One query's metric from a list of ids and a dictionary of gains."""
    relevant = {document for document, gain in judged.items() if gain > 0}
    hits = [document in relevant for document in ranked[:k]]
    found = sum(hits)
    precisions = sum(sum(hits[: i + 1]) / (i + 1) for i, hit in enumerate(hits) if hit)
    gains = [judged.get(document, 0) if document in relevant else 0 for document in ranked[:k]]
    ideal = sorted((judged[document] for document in relevant), reverse=True)[:k]
    return {
        "recall": found / len(relevant),
        "success": float(found > 0),
        "ndcg": _discounted(gains) / _discounted(ideal),
        "map": precisions / len(relevant),
        "map (÷ min)": precisions / min(k, len(relevant)),
        "mrr": next((1 / (i + 1) for i, hit in enumerate(hits) if hit), 0.0),
    }[name]


def _discounted(gains):
    return sum(gain / math.log2(i + 2) for i, gain in enumerate(gains))
