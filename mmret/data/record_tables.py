"""Tables on disk, read by column and row without being loaded: parquet, arrow, JSON lines, CSV and TSV.

A table may lie in several files (shards). Parquet and arrow need pyarrow (extra `hub`). Columns that nobody asks for
are never read: ids and texts beside a million screenshots cost what ids and texts cost.
"""

import bisect
import os
import re
import threading
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from mmret.data import records
from mmret.data.table_formats import SUFFIXES, UNREADABLE, damaged, open_part
from mmret.errors import InputError

_SPLIT: Final = re.compile(r"(?:^|.*-)(train|validation|val|dev|test)(?:-\d+-of-\d+)?")
"""A file's name without its suffix, or its folder's, that says a split: `test-00000-of-00001`, `docvqa-test`."""


class RecordTable:
    """The rows of one or several files, in their order. It may be pickled, and read by several threads.

    Raises:
        InputError: No file, or one that is missing, damaged or of another kind; pyarrow is not installed. Damage that
            lies deeper is told when it is read, with its place.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.paths = tuple(Path(path) for path in paths)
        if not self.paths:
            raise InputError("A table needs at least one file.")
        self._forget()
        self.columns = tuple(self._parts[0].columns)
        self._starts = [0, *accumulate(map(len, self._parts))]

    def __len__(self) -> int:
        return self._starts[-1]

    def require(self, *names: str) -> str:
        """The first of these column names that the table has; InputError where it has none of them."""
        found = self.optional(*names)
        if found is None:
            have = ", ".join(self.columns)
            raise InputError(f"{self.paths[0]} has no column {' or '.join(map(repr, names))}; it has {have}.")
        return found

    def optional(self, *names: str) -> str | None:
        """The first of these column names that the table has, or None."""
        return next((name for name in names if name in self.columns), None)

    def holds_text(self, column: str) -> bool:
        """Whether a column's cells are strings; none of a column with bytes is read to know."""
        return column in self._parts[0].text_columns

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[str, records.Record]]:
        """Yield (place, the row's values of these columns)."""
        for path, part in zip(self.paths, self._parts, strict=True):
            number = -1
            try:
                for number, row in enumerate(part.rows(columns)):
                    yield f"{path}, row {number}", row
            except UNREADABLE as error:
                raise damaged(f"{path} cannot be read from row {number + 1} on", error) from None

    def cell(self, column: str, row: int) -> Any:
        """The value of a column in a row, counted over all files; only what lies around it is read."""
        with self._lock:
            if self._process != os.getpid():  # forked: open files of the parent are left alone
                self._forget()
            part, inside = self._place(row)
            try:
                return self._parts[part].cell(column, inside)
            except UNREADABLE as error:
                place = f"{self.paths[part]}, row {inside}: {column}"
                raise damaged(f"{place} cannot be read", error) from None

    def file(self, row: int) -> Path:
        """The file that holds a row."""
        return self.paths[self._place(row)[0]]

    def _place(self, row: int) -> tuple[int, int]:
        part = bisect.bisect_right(self._starts, row) - 1
        return part, row - self._starts[part]

    def _forget(self) -> None:
        """Open everything anew, in this process."""
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._parts = [open_part(path) for path in self.paths]

    def __getstate__(self) -> dict[str, Any]:
        return {"paths": self.paths}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["paths"])  # type: ignore[misc]


def find_table(root: Path, name: str, split: str) -> RecordTable | None:
    """The table `name` of a folder in one of the usual layouts, or None where there is none.

    Looked for are `name.jsonl`, `name/split*.parquet`, `name/split/*.arrow` (as `datasets` saves), `name/*.parquet`,
    below `root` or `root/data`, with any of the known suffixes; `split` may also be missing, where a table has only one
    part.
    """
    for place in (root, root / "data"):
        for folder, pattern in (
            *((place / name, f"{split}{end}") for end in ("", "-*", ".*")),
            (place / name / split, "*"),
            (place, name),
            (place, f"{name}-*"),
            (place / name, "*"),
            (place / name / name, "*"),
        ):
            paths = _files(folder, pattern)
            if paths:
                return RecordTable(paths)
    return None


def require_split(table: RecordTable | None, split: str) -> None:
    """Raise `InputError` for a table whose files say by their names that they are another split.

    `find_table` takes a table's only part whatever its split: right for a corpus, and wrong for what is trained on.
    """
    paths = table.paths if table is not None else ()
    names = {name for path in paths for name in (path.stem, path.parent.name)}
    said = {found[1] for name in names if (found := _SPLIT.fullmatch(name))}
    if said - {split}:
        raise InputError(
            f"{paths[0]} is of the split {' and '.join(sorted(said))}, where {split} is asked for; name that one, or "
            "give the other's files."
        )


def require_table(root: Path, name: str, split: str) -> RecordTable:
    """As `find_table`; InputError where there is none."""
    found = find_table(root, name, split)
    if found is None:
        raise InputError(
            f"{root} has no table {name!r}: neither {name}.jsonl nor {name}/{split}-*.parquet or the like "
            "(data/README.md shows the layouts)."
        )
    return found


def _files(folder: Path, pattern: str) -> list[Path]:
    """The files of the first suffix that has some, sorted: shards of one table."""
    if folder.is_dir():
        for suffix in SUFFIXES:
            found = sorted(folder.glob(pattern + suffix))
            if found:
                return found
    return []
