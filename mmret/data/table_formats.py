"""One file of a table: parquet, arrow, JSON lines, CSV or TSV, read by column and row without being loaded.

Parquet and arrow need pyarrow (extra `hub`).
"""

import bisect
import csv
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, Protocol

from mmret.data import records
from mmret.errors import InputError, missing_extra

SUFFIXES: Final = (".parquet", ".arrow", ".jsonl", ".csv", ".tsv")
"""The kinds of files, preferred first."""

_ROWS_AT_A_TIME: Final = 512
_LONGEST_FIELD: Final = 2**31 - 1
"""Of CSV and TSV, in characters: Python's own limit, 131,072, is less than a page of some corpora."""
UNREADABLE: Final = (ValueError, OSError, csv.Error)
"""What a damaged file raises: pyarrow's own errors, and those of decoding, are the first two."""


class Part(Protocol):
    """One file of a table."""

    columns: Sequence[str]
    text_columns: Collection[str]
    """Columns whose cells are strings, by the schema where there is one, else by the first row."""

    def __len__(self) -> int: ...

    def rows(self, columns: Sequence[str]) -> Iterator[records.Record]:
        """Every row, with these columns only, streamed."""
        ...

    def cell(self, column: str, row: int) -> Any:
        """One value."""
        ...


def open_part(path: Path) -> Part:
    """Open a file by its suffix.

    Raises:
        InputError: No such file or kind, one that is damaged where it begins, or no pyarrow.
    """
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
    except UNREADABLE as error:
        raise damaged(f"{path} is no readable {path.suffix[1:]} file", error) from None


def damaged(what: str, error: Exception) -> InputError:
    """The sentence for what is `UNREADABLE`, to be raised; one that is said already stays."""
    if isinstance(error, InputError):
        return error
    said = str(error).partition("\n")[0] or type(error).__name__
    return InputError(f"{what} ({said}); mend the file, or fetch it again.")


def _text_columns(schema: Any) -> frozenset[str]:
    """The columns of a schema of pyarrow that hold strings."""
    from pyarrow import types

    def is_text(kind: Any) -> bool:
        kind = kind.value_type if types.is_dictionary(kind) else kind
        return bool(types.is_string(kind) or types.is_large_string(kind))

    return frozenset(field.name for field in schema if is_text(field.type))


class _Parquet:
    """A parquet file; the row group that was read last is kept, one column of it."""

    def __init__(self, path: Path) -> None:
        from pyarrow.parquet import ParquetFile

        self._file = ParquetFile(path)
        self.columns = self._file.schema_arrow.names
        self.text_columns: Collection[str] = _text_columns(self._file.schema_arrow)
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
        self.text_columns: Collection[str] = _text_columns(reader.schema)
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
        _, first = next(records.read_json_lines(path), ("", {}))
        self.columns: Sequence[str] = list(first)
        self.text_columns: Collection[str] = frozenset(
            name for name, value in first.items() if isinstance(value, str)
        )

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
        self.text_columns: Collection[str] = frozenset(self.columns)

    @cached_property
    def _all(self) -> list[records.Record]:
        return list(self.rows(self.columns))

    def _read(self) -> Iterator[list[str]]:
        csv.field_size_limit(_LONGEST_FIELD)
        with self._path.open(encoding="utf-8", newline="") as file:
            lines = csv.reader(file, delimiter="\t" if self._path.suffix == ".tsv" else ",")
            try:
                yield from lines
            except UNREADABLE as error:
                raise damaged(f"{self._path} cannot be read behind line {lines.line_num}", error) from None

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
