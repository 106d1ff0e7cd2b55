"""What is searched, as far as ids go: the order of rows, and of ids."""

from collections.abc import Iterable, Mapping
from functools import cached_property

import numpy as np

from mmret.retrieval.checks import Integers


class Gallery:
    """n documents with distinct ids; an index adds what ranks them."""

    def __init__(self, ids: tuple[str, ...]) -> None:
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def positions(self) -> dict[str, int]:
        """The row of each id."""
        return {name: row for row, name in enumerate(self.ids)}

    @cached_property
    def rows_by_id(self) -> Integers:
        """Rows in ascending order of id, int64 [n]."""
        return np.array(sorted(range(len(self)), key=self.ids.__getitem__), dtype=np.int64)

    @cached_property
    def id_ranks(self) -> Integers:
        """The place of each row in the ascending order of ids, int64 [n]: what breaks ties."""
        ranks = np.empty(len(self), dtype=np.int64)
        ranks[self.rows_by_id] = np.arange(len(self))
        return ranks


def known_rows(rows: Mapping[str, int], names: Iterable[str]) -> Integers:
    """The rows of those of some documents that are there, int64 [≤ n]."""
    return np.array([rows[name] for name in names if name in rows], dtype=np.int64)
