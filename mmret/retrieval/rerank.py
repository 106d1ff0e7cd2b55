"""Re-ranking: the first documents of a run, in the order of a better but slower score."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from mmret.errors import InputError
from mmret.retrieval.run import Run
from mmret.retrieval.search import checked_depth

_PROGRESS_AFTER_S = 5.0


class Scorer(Protocol):
    """Scores some documents for a query; higher is better."""

    def __call__(self, query_id: str, document_ids: Sequence[str], /) -> ArrayLike:
        """One finite number a document."""


def rerank(run: Run, scorer: Scorer, top: int) -> Run:
    """The first `top` documents of each query by the scorer's scores, ties by ascending id; deeper ones are cut off.

    Nothing is ranked below the re-ranked ones, since their scores are of another kind.

    Raises:
        InputError: The scorer gives another number of scores, or one that is not finite.
    """
    depth = min(checked_depth(top), run.depth)
    indices = np.full((len(run), depth), -1, dtype=np.int64)
    scores = np.full((len(run), depth), -np.inf, dtype=np.float32)
    for row, query in enumerate(
        tqdm(run.query_ids, desc="re-ranking", unit="query", delay=_PROGRESS_AFTER_S)
    ):
        found = run.indices[row, :depth]
        found = found[found >= 0]
        names = [run.document_ids[place] for place in found]
        values = np.asarray(scorer(query, names), dtype=np.float32) if names else np.empty(0, np.float32)
        if values.shape != (len(names),) or not np.isfinite(values).all():
            raise InputError(
                f"The scorer gave {values.shape} for the {len(names)} documents of {query!r}, or no number."
            )
        order = sorted(range(len(names)), key=lambda place: (-values[place], names[place]))
        indices[row, : len(names)] = found[order]
        scores[row, : len(names)] = values[order]
    return Run(run.query_ids, run.document_ids, indices, scores)
