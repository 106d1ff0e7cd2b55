"""Tables on disk, read by column and row without being loaded: parquet, arrow, JSON lines, CSV and TSV.

A table may lie in several files (shards). Parquet and arrow need pyarrow (extra `hub`). Columns that nobody asks for
are never read: ids and texts beside a million screenshots cost what ids and texts cost.
"""

import bisect
import csv
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, Protocol

from mmret.data import records
from mmret.errors import InputError, missing_extra

SUFFIXES: Final = (".parquet", ".arrow", ".jsonl", ".csv", ".tsv")
"""The kinds of files, preferred first."""

_ROWS_AT_A_TIME: Final = 512
_SPLIT: Final = re.compile(r"(?:^|.*-)(train|validation|val|dev|test)(?:-\d+-of-\d+)?")
"""A file's name without its suffix, or its folder's, that says a split: `test-00000-of-00001`, `docvqa-test`."""


class Part(Protocol):
    """One file of a table."""

    columns: Sequence[str]

    def __len__(self) -> int: ...

    def rows(self, columns: Sequence[str]) -> Iterator[records.Record]:
        """Every row, with these columns only, streamed."""
        ...

    def cell(self, column: str, row: int) -> Any:
        """One value."""
        ...


class RecordTable:
    """The rows of one or several files, in their order. It may be pickled, and read by several threads.

    Raises:
        InputError: No file, or one that is missing, damaged or of another kind; pyarrow is not installed.
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

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[str, records.Record]]:
        """Yield (place, the row's values of these columns)."""
        for path, part in zip(self.paths, self._parts, strict=True):
            for number, row in enumerate(part.rows(columns)):
                yield f"{path}, row {number}", row

    def cell(self, column: str, row: int) -> Any:
        """The value of a column in a row, counted over all files; only what lies around it is read."""
        with self._lock:
            if self._process != os.getpid():  # forked: open files of the parent are left alone
                self._forget()
            part, inside = self._place(row)
            return self._parts[part].cell(column, inside)

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
        self._parts: list[Part] = [_open(path) for path in self.paths]

    def __getstate__(self) -> dict[str, Any]:
        return {"paths": self.paths}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["paths"])  # type: ignore[misc]


def _open(path: Path) -> Part:
    kinds: dict[str, Callable[[Path], Part]] = {
        ".parquet": _Parquet,
        ".arrow": _Arrow,
        ".jsonl": _Lines,
        ".csv": _Delimited,
        ".tsv": _Delimited,
    }
    if path.suffix not in kinds:
        raise InputError(f"{path} is no table of a known kind ({', '.join(SUFFIXES)}).")
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        return kinds[path.suffix](path)
    except ImportError:
        raise missing_extra(str(path), "pyarrow", "hub") from None
    except (ValueError, OSError) as error:  # pyarrow's own errors are both
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} is no readable {path.suffix[1:]} file ({str(error).splitlines()[0]})."
        ) from None


class _Parquet:
    """A parquet file; the row group that was read last is kept, one column of it."""

    def __init__(self, path: Path) -> None:
        from pyarrow.parquet import ParquetFile

        self._file = ParquetFile(path)
        self.columns = self._file.schema_arrow.names
        groups = map(self._file.metadata.row_group, range(self._file.num_row_groups))
        self._starts: list[int] = [0, *accumulate(group.num_rows for group in groups)]
        self._held: tuple[str, int, Any] = ("", -1, None)

    def __len__(self) -> int:
        return self._starts[-1]

    def rows(self, columns: Sequence[str]) -> Iterator[records.Record]:
        for batch in self._file.iter_batches(_ROWS_AT_A_TIME, columns=list(columns), use_threads=False):
            yield from batch.to_pylist()

    def cell(self, column: str, row: int) -> Any:
        group = bisect.bisect_right(self._starts, row) - 1
        if self._held[:2] != (column, group):
            read = self._file.read_row_group(group, columns=[column], use_threads=False)
            self._held = (column, group, read.column(column))
        return self._held[2][row - self._starts[group]].as_py()


class _Arrow:
    """An arrow file or stream, as `datasets` keeps them; mapped into memory, so that only what is asked for is read."""

    def __init__(self, path: Path) -> None:
        import pyarrow

        mapped = pyarrow.memory_map(str(path))
        try:
            reader = pyarrow.ipc.open_stream(mapped)
            self._batches = list(reader)
        except pyarrow.ArrowInvalid:
            reader = pyarrow.ipc.open_file(mapped)
            self._batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        self.columns = reader.schema.names
        self._starts: list[int] = [0, *accumulate(batch.num_rows for batch in self._batches)]

    def __len__(self) -> int:
        return self._starts[-1]

    def rows(self, columns: Sequence[str]) -> Iterator[records.Record]:
        for batch in self._batches:
            yield from batch.select(list(columns)).to_pylist()

    def cell(self, column: str, row: int) -> Any:
        number = bisect.bisect_right(self._starts, row) - 1
        return self._batches[number].column(column)[row - self._starts[number]].as_py()


class _Lines:
    """JSON lines; the columns are those of the first line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        first = next(records.read_json_lines(path), None)
        self.columns: Sequence[str] = list(first[1]) if first is not None else []

    @cached_property
    def _all(self) -> list[records.Record]:
        return [record for _, record in records.read_json_lines(self._path)]

    def __len__(self) -> int:
        return sum(1 for _ in records.read_json_lines(self._path))

    def rows(self, columns: Sequence[str]) -> Iterator[records.Record]:
        for _, record in records.read_json_lines(self._path):
            yield {name: record.get(name) for name in columns}

    def cell(self, column: str, row: int) -> Any:
        return self._all[row].get(column)


class _Delimited:
    """CSV or TSV with a header, in UTF-8; a BEIR folder has its judgements so."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.columns: Sequence[str] = next(self._read(), [])

    @cached_property
    def _all(self) -> list[records.Record]:
        return list(self.rows(self.columns))

    def _read(self) -> Iterator[list[str]]:
        with self._path.open(encoding="utf-8", newline="") as file:
            yield from csv.reader(file, delimiter="\t" if self._path.suffix == ".tsv" else ",")

    def __len__(self) -> int:
        return sum(1 for _ in self._read()) - 1

    def rows(self, columns: Sequence[str]) -> Iterator[records.Record]:
        for number, values in enumerate(self._read()):
            if number and len(values) != len(self.columns):
                raise InputError(
                    f"{self._path}, row {number} has {len(values)} fields, not {len(self.columns)}."
                )
            if number:
                record = dict(zip(self.columns, values, strict=True))
                yield {name: record.get(name) for name in columns}

    def cell(self, column: str, row: int) -> Any:
        return self._all[row].get(column)


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
