"""Records in JSON and JSON-lines files: read with the place of every mistake, written whole or not at all."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mmret.atomic import write_text
from mmret.errors import InputError

Record = Mapping[str, Any]
T = TypeVar("T")

_DECODER = json.JSONDecoder()
_SPACE = r"[ \t\n\r]*"
_LIST_START = re.compile(rf"{_SPACE}(\[){_SPACE}")
_EMPTY_LIST = re.compile(rf"{_SPACE}\[{_SPACE}\]{_SPACE}")
_BETWEEN = re.compile(rf"{_SPACE}([,\]]){_SPACE}")


def read_text(path: str | Path) -> str:
    """A UTF-8 text file, read whole; a missing file, a folder or another encoding raises InputError."""
    with _reading(path):
        return Path(path).read_text(encoding="utf-8")


@contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"There is no file {path}.") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder, where a file is needed.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error}).") from None


def read_json(path: str | Path) -> Any:
    """The value in a JSON file; a missing or malformed file raises InputError."""
    return _parse(read_text(path), str(path))


def read_json_lines(path: str | Path) -> Iterator[tuple[str, Record]]:
    """Yield ("file:line", record) for every line that is not blank; each must hold a JSON object.

    One line at a time is in memory.
    """
    # Lines end at "\n" alone: others, such as U+2028, may stand inside a JSON string.
    with _reading(path), Path(path).open(encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                where = f"{path}:{number}"
                yield where, _require_object(_parse(line, where), where)


def read_records(path: str | Path) -> Iterator[tuple[str, Record]]:
    """Yield (place, record) from JSON lines (`.jsonl`) or from a JSON list of objects (any other name)."""
    values = read_json_lines(path) if Path(path).suffix == ".jsonl" else _list_elements(path)
    yield from values


def _list_elements(path: str | Path) -> Iterator[tuple[str, Record]]:
    """The objects of a JSON list, decoded one by one: a million of them need no million dictionaries at once."""
    text, number, at = read_text(path), 0, 0
    between = _LIST_START.match(text)
    if between is None or _EMPTY_LIST.fullmatch(text):
        value = _parse(text, str(path))
        if value == []:
            return
        raise InputError(f"{path} holds a {type(value).__name__} where a JSON list is needed.")
    while between is not None and between[1] != "]":
        try:
            value, at = _DECODER.raw_decode(text, between.end())
        except json.JSONDecodeError:
            break
        yield (where := f"{path}, record {number}"), _require_object(value, where)
        between, number = _BETWEEN.match(text, at), number + 1
    if between is None or between[1] != "]" or between.end() < len(text):
        _parse(text, str(path))  # says what is wrong and where


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{where} is not valid JSON ({error}).") from None


def _require_object(value: object, where: str) -> Record:
    if not isinstance(value, dict):
        raise InputError(f"{where} holds a {type(value).__name__} where a JSON object is needed.")
    return value


def field(record: Record, key: str, kind: type[T], where: str) -> T:
    """The value of a required key, checked to be of the given type."""
    if key not in record:
        raise InputError(f"{where} has no {key!r}; it has {', '.join(map(repr, record)) or 'no key at all'}.")
    value = record[key]
    if not isinstance(value, kind):
        raise InputError(f"{where}: {key!r} is {value!r}, where a {kind.__name__} is needed.")
    return value


def strings(value: object, key: str, where: str) -> tuple[str, ...]:
    """One string or a list of strings, as a tuple."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
        raise InputError(f"{where}: {key!r} is {value!r}, where a string or a list of strings is needed.")
    return tuple(values)


def write_json_lines(path: str | Path, records: Iterable[Record]) -> None:
    """Write one JSON object a line, whole or not at all."""
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
