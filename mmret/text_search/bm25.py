"""BM25 over any texts, with exact ties: the baseline that page images have to beat."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mmret.errors import InputError, missing_extra
from mmret.retrieval.run import Run
from mmret.retrieval.scored_rows import rank_scores
from mmret.text_search.analyser import Analyser

_PROGRESS_AFTER_S = 5.0
METHODS = ("lucene", "robertson", "atire", "bm25l", "bm25+")


@dataclass(frozen=True)
class BM25:
    """BM25 as Lucene computes it, by `bm25s` (extra `text`).

    Attributes:
        k1: How soon more of the same word stops counting; .9 is Anserini's default.
        b: How much long texts are held back; .4 as there.
        method: The variant, as `bm25s` names them.
        analyser: Text → words, the same for queries and documents.
    """

    k1: float = 0.9
    b: float = 0.4
    method: str = "lucene"
    analyser: Analyser = field(default_factory=Analyser)

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing."""
        if self.method not in METHODS:
            raise InputError(f"BM25's method is {self.method!r}, not one of {', '.join(METHODS)}.")
        if not self.k1 >= 0 or not 0 <= self.b <= 1:
            raise InputError(f"BM25 has k1 {self.k1} and b {self.b}; k1 is 0 or more, and b from 0 to 1.")

    def describe(self) -> dict[str, Any]:
        """Every setting, by name."""
        return asdict(self)

    def index(self, texts: Iterable[tuple[str, str]]) -> "TextIndex":
        """Count the words of (id, text) pairs; only numbers of words are kept, not the texts.

        The index lies in memory, about 4 kB for each hundred different words of a text.

        Raises:
            InputError: No text at all; `bm25s` is not installed.
        """
        try:
            import bm25s
        except ImportError:
            raise missing_extra("BM25", "bm25s", "text") from None
        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it tells every step, once anything logs
        vocabulary: dict[str, int] = {}
        ids: list[str] = []
        documents: list[NDArray[np.int32]] = []
        for id, text in tqdm(texts, desc="counting words", unit="text", delay=_PROGRESS_AFTER_S):
            ids.append(id)
            numbers = [vocabulary.setdefault(word, len(vocabulary)) for word in self.analyser(text)]
            documents.append(np.array(numbers, dtype=np.int32))
        if not vocabulary:
            raise InputError(
                f"None of the {len(ids):,} texts holds a word; BM25 has nothing to count (are they scans?)."
            )
        engine = bm25s.BM25(k1=self.k1, b=self.b, method=self.method)
        engine.index((documents, vocabulary), create_empty_token=False, show_progress=False)
        return TextIndex(self, tuple(ids), vocabulary, engine)


@dataclass(frozen=True, eq=False)
class TextIndex:
    """What `BM25.index` makes.

    Attributes:
        settings: The BM25.
        ids: Of the documents.
        vocabulary: Word → number.
        engine: The `bm25s` index.
    """

    settings: BM25
    ids: tuple[str, ...]
    vocabulary: Mapping[str, int]
    engine: Any

    def scores(self, query: str) -> NDArray[np.float32]:
        """The score of every document, float32 [N]; -inf where it holds no word of the query (Lucene returns none)."""
        numbers = [self.vocabulary[word] for word in self.settings.analyser(query) if word in self.vocabulary]
        if not numbers:
            return np.full(len(self.ids), -np.inf, dtype=np.float32)
        found = np.asarray(self.engine.get_scores_from_ids(numbers), dtype=np.float32)
        return np.where(self._matched(numbers), found, np.float32(-np.inf))

    def _matched(self, numbers: Sequence[int]) -> NDArray[np.bool_]:
        matched = np.zeros(len(self.ids), dtype=bool)
        for number in set(numbers):
            begin, end = self.engine.scores["indptr"][number : number + 2]
            matched[self.engine.scores["indices"][begin:end]] = True
        return matched

    def search(
        self,
        queries: Mapping[str, str],
        k: int,
        *,
        exclude: Mapping[str, Sequence[str]] | None = None,
        pools: Mapping[str, Sequence[str]] | None = None,
    ) -> Run:
        """The k best documents of each query (id → text), ties by ascending id; see `rank_scores` for the rest."""
        rows: Iterator[NDArray[np.float32]] = (self.scores(text) for text in queries.values())
        return rank_scores(queries, self.ids, rows, k, exclude=exclude, pools=pools)
