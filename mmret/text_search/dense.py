"""Dense retrieval of texts by any model of sentence-transformers (extra `dense`), such as E5 or BGE."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mmret.errors import InputError, missing_extra
from mmret.retrieval.index import Index
from mmret.retrieval.run import Run
from mmret.retrieval.search import search
from mmret.retrieval.store import EmbeddingStore
from mmret.text_search.weights import weights_digest

Vectors = NDArray[np.float32]

_TEXTS_AT_A_TIME = 4096
_PROGRESS_AFTER_S = 5.0


@dataclass(frozen=True)
class DenseText:
    """A text encoder by name; queries and documents are compared by cosine similarity.

    Attributes:
        model: A folder, or a name of the hub. No code of the model's own is ever run.
        revision: Of the hub.
        query_prompt: What stands before a query, such as "query: " for E5. None: the model's own prompt named "query",
            if it has one.
        document_prompt: Likewise before a document ("passage: "), or the model's own of "document" or "passage".
        batch_size: Texts encoded at once.
    """

    model: str
    revision: str | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None
    batch_size: int = 32

    def describe(self) -> dict[str, Any]:
        """Every setting, by name."""
        return asdict(self)

    def load(self, device: str | None = None) -> "TextEncoder":
        """The model in memory; raises `InputError` where it or sentence-transformers is not there."""
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise missing_extra("A text encoder", "sentence-transformers", "dense") from None
        try:
            model = SentenceTransformer(
                self.model, revision=self.revision, device=device, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            raise InputError(
                f"The text encoder {self.model} cannot be loaded ({str(error).splitlines()[0]})."
            ) from None
        return TextEncoder(self, model)


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """What `DenseText.load` gives."""

    settings: DenseText
    model: Any

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Un-normalised vectors float32 [n, D] of queries, behind the query's prompt."""
        return self._encode(texts, self._prompt(self.settings.query_prompt, "query"))

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        """Likewise of documents."""
        return self._encode(texts, self._prompt(self.settings.document_prompt, "document", "passage"))

    def embed(self, texts: Iterable[tuple[str, str]], store: EmbeddingStore) -> None:
        """Encode (id, text) pairs that a store lacks or holds of another text, block by block: a killed run goes on."""
        pairs = iter(tqdm(texts, desc=self.settings.model, unit="text", delay=_PROGRESS_AFTER_S))
        while block := list(islice(pairs, _TEXTS_AT_A_TIME)):
            stamps = {id: hashlib.sha256(text.encode()).hexdigest()[:16] for id, text in block}
            missing = set(store.missing(list(stamps), list(stamps.values())))
            wanted = [(id, text) for id, text in block if id in missing]
            if wanted:
                ids = [id for id, _ in wanted]
                vectors = self.encode_documents([text for _, text in wanted])
                store.remove(ids)
                store.append(ids, vectors, [stamps[id] for id in ids])

    def search(
        self,
        index: Index,
        queries: Mapping[str, str],
        k: int,
        *,
        exclude: Mapping[str, Sequence[str]] | None = None,
        pools: Mapping[str, Sequence[str]] | None = None,
    ) -> Run:
        """The k best documents of each query (id → text); see `mmret.retrieval.search`."""
        return search(
            index, queries, self.encode_queries(list(queries.values())), k, exclude=exclude, pools=pools
        )

    def fingerprint(self) -> dict[str, str]:
        """What decides the vectors of documents: the weights' digest (of a folder) or revision, and the prompt."""
        prompt = self._prompt(self.settings.document_prompt, "document", "passage")
        return {"model": self.settings.model, "weights": self._weights(), "prompt": prompt}

    def _weights(self) -> str:
        folder = Path(self.settings.model)
        return weights_digest(folder) if folder.is_dir() else self.settings.revision or "default"

    def _prompt(self, given: str | None, *names: str) -> str:
        known = getattr(self.model, "prompts", None) or {}
        own = next((known[name] for name in names if known.get(name)), "")
        return own if given is None else given

    def _encode(self, texts: Sequence[str], prompt: str) -> Vectors:
        return np.asarray(
            self.model.encode(
                list(texts),
                prompt=prompt,  # "" is none; None would bring in the model's default prompt
                batch_size=self.settings.batch_size,
                show_progress_bar=False,
                convert_to_numpy=True,
                normalize_embeddings=False,
            ),
            dtype=np.float32,
        )
