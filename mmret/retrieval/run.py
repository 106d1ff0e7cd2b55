"""A run: the ranked documents of every query, in memory, as a file of its own and in TREC's format."""

import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mmret.atomic import atomic_write
from mmret.errors import InputError
from mmret.retrieval.checks import Floats, Integers, checked_ids
from mmret.retrieval.notebook import html_table
from mmret.retrieval.trec import read_rankings, write_rankings

_SHOWN = 5
"""Queries and ranks that a notebook shows of a run."""


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """Rankings of Q queries, k deep.

    Attributes:
        query_ids: Q distinct ids.
        document_ids: the gallery's n distinct ids.
        indices: int64 [Q, k], places in `document_ids`, best first; -1 where a ranking is shorter than k.
        scores: float32 [Q, k], falling; -inf where `indices` is -1.

    Raises:
        InputError: shapes, ids, order or padding are not as above, or a ranking holds a document twice.
    """

    query_ids: tuple[str, ...]
    document_ids: tuple[str, ...]
    indices: Integers
    scores: Floats

    def __post_init__(self) -> None:
        object.__setattr__(self, "query_ids", checked_ids(self.query_ids, "the run's queries"))
        object.__setattr__(self, "document_ids", checked_ids(self.document_ids, "the run's documents"))
        object.__setattr__(self, "indices", np.asarray(self.indices, dtype=np.int64))
        object.__setattr__(self, "scores", np.asarray(self.scores, dtype=np.float32))
        fault = self._fault()
        if fault:
            raise InputError(f"This run is damaged: {fault}; search again or read it from another file.")

    def _fault(self) -> str | None:
        shape, filled = self.indices.shape, self.indices >= 0
        if len(shape) != 2 or shape != self.scores.shape or shape[0] != len(self.query_ids):
            return f"indices {list(shape)}, scores {list(self.scores.shape)}, {len(self.query_ids)} queries"
        if self.indices.size and not -1 <= self.indices.min() <= self.indices.max() < len(self.document_ids):
            return "an index points outside the documents"
        if not np.array_equal(filled, np.isfinite(self.scores)) or (filled[:, 1:] > filled[:, :-1]).any():
            return "scores and padding do not match"
        if (self.scores[:, 1:] > self.scores[:, :-1]).any():
            return "scores rise within a ranking"
        ordered = np.sort(self.indices, axis=1)
        if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
            return "a ranking holds a document twice"
        return None

    def __len__(self) -> int:
        return len(self.query_ids)

    def __repr__(self) -> str:
        documents = len(self.document_ids)
        return f"Run({len(self)} queries x {self.depth} of {documents} documents, {self.ties} ties)"

    def _repr_html_(self) -> str:
        """What a notebook shows: the best documents of the first queries, by their ids."""
        shown = min(self.depth, _SHOWN)
        rows = []
        for query in self.query_ids[:_SHOWN]:
            best = [name for name, _ in self.ranking(query)[:shown]]
            rows.append([query, *best, *["–"] * (shown - len(best))])
        return html_table(repr(self), ["query", *(f"rank {rank + 1}" for rank in range(shown))], rows)

    @property
    def depth(self) -> int:
        """k: the number of ranks kept a query."""
        return int(self.indices.shape[1])

    @property
    def tied(self) -> NDArray[np.bool_]:
        """Whether the document at each rank scored as the one above it, so that ids decided; bool [Q, k]."""
        equal = np.zeros(self.scores.shape, dtype=bool)
        equal[:, 1:] = (self.scores[:, 1:] == self.scores[:, :-1]) & (self.indices[:, 1:] >= 0)
        return equal

    @property
    def ties(self) -> int:
        """How many documents of all rankings are `tied`."""
        return int(self.tied.sum())

    @cached_property
    def rows(self) -> dict[str, int]:
        """The row of each query id."""
        return {name: row for row, name in enumerate(self.query_ids)}

    def ranking(self, query_id: str) -> list[tuple[str, float]]:
        """One query's documents with their scores, best first.

        Raises:
            InputError: the run has no such query.
        """
        if query_id not in self.rows:
            raise InputError(f"This run has no query {query_id!r}: it has {len(self)}, see `query_ids`.")
        row = self.rows[query_id]
        pairs = zip(self.indices[row], self.scores[row], strict=True)
        return [(self.document_ids[index], float(score)) for index, score in pairs if index >= 0]

    def save(self, path: str | Path) -> None:
        """Write the run as a numpy archive (.npz), whole or not at all.

        Raises:
            InputError: the file cannot be written.
        """
        with atomic_write(Path(path)) as handle:
            np.savez(
                handle,
                query_ids=_as_bytes(self.query_ids),
                document_ids=_as_bytes(self.document_ids),
                indices=self.indices,
                scores=self.scores,
            )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing, or is no run.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                ids = [tuple(json.loads(file[name].tobytes())) for name in ("query_ids", "document_ids")]
                return cls(ids[0], ids[1], file["indices"], file["scores"])
        except InputError:
            raise
        except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is no saved run ({error}): give a file `Run.save` wrote.") from error

    def write_trec(self, path: str | Path, tag: str = "mmret") -> None:
        """Write `query Q0 document rank score tag` lines, whole or not at all.

        Scores are written strictly falling in float32 (a tied one is lowered by the least possible), so that
        every tool reads the same order back, whatever it does with ties. Queries without documents leave no
        line.

        Raises:
            InputError: an id or the tag holds white space, which the format cannot carry; the disk is full.
        """
        write_rankings(Path(path), ((query, self.ranking(query)) for query in self.query_ids), tag)

    @classmethod
    def read_trec(cls, path: str | Path, *, depth: int | None = None) -> Self:
        """Read a TREC run: by descending score, equal ones by ascending document id, ranks not looked at.

        Args:
            path: the file.
            depth: k of the run; by default that of the longest ranking. Rankings are cut or padded to it.

        Raises:
            InputError: the file is missing, a line is malformed (its number is named), or a ranking holds a
                document twice.
        """
        rankings = read_rankings(Path(path))
        documents = tuple(sorted({name for ranking in rankings.values() for name in ranking}))
        places = {name: place for place, name in enumerate(documents)}
        k = max((len(ranking) for ranking in rankings.values()), default=0) if depth is None else depth
        indices = np.full((len(rankings), k), -1, dtype=np.int64)
        scores = np.full((len(rankings), k), -np.inf, dtype=np.float32)
        for row, ranking in enumerate(rankings.values()):
            best = sorted(ranking, key=lambda name: (-ranking[name], name))[:k]
            indices[row, : len(best)] = [places[name] for name in best]
            scores[row, : len(best)] = [ranking[name] for name in best]
        return cls(tuple(rankings), documents, indices, scores)


def _as_bytes(names: Iterable[str]) -> NDArray[np.uint8]:
    """Ids as JSON bytes: exact for any text, and loaded without pickle."""
    return np.frombuffer(json.dumps(list(names)).encode(), dtype=np.uint8)
