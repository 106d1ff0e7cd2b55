"""Re-ranking by a cross-encoder of sentence-transformers (extra `dense`): query and text are read together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mmret.errors import InputError, missing_extra


@dataclass(frozen=True, eq=False)
class TextPairScorer:
    """Scores documents for a query by their texts; a `retrieval.rerank.Scorer`.

    Attributes:
        model: A `CrossEncoder`.
        queries: Query id → text.
        texts: Document id → text, of every document that may be asked for.
    """

    model: Any
    queries: Mapping[str, str]
    texts: Mapping[str, str]

    @classmethod
    def load(
        cls, name: str, queries: Mapping[str, str], texts: Mapping[str, str], revision: str | None = None
    ) -> Self:
        """With the model of a folder or of the hub, whose own code is never run; raises `InputError`."""
        try:
            from sentence_transformers import CrossEncoder
        except ImportError:
            raise missing_extra("A cross-encoder", "sentence-transformers", "dense") from None
        try:
            return cls(CrossEncoder(name, revision=revision, trust_remote_code=False), queries, texts)
        except (OSError, ValueError) as error:
            raise InputError(
                f"The cross-encoder {name} cannot be loaded ({str(error).splitlines()[0]})."
            ) from None

    def __call__(self, query_id: str, document_ids: Sequence[str], /) -> NDArray[np.float32]:
        """One score a document, float32 [n]."""
        pairs = [(self.queries[query_id], self.texts[document]) for document in document_ids]
        return np.asarray(self.model.predict(pairs, show_progress_bar=False), dtype=np.float32).reshape(-1)
