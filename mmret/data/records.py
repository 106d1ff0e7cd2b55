"""Records in JSON and JSON-lines files: read with the place of every mistake, written whole or not at all."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from mmret.errors import InputError

Record = Mapping[str, Any]
T = TypeVar("T")


def read_json(path: str | Path) -> Any:
    """The value in a JSON file; a missing or malformed file raises InputError."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid JSON ({error}).") from None


def read_json_lines(path: str | Path) -> Iterator[tuple[str, Record]]:
    """Yield ("file:line", record) for every line that is not blank; each must hold a JSON object."""
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error}).") from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"{path}:{number}"
            yield where, _parse_object(line, where)


def _parse_object(line: str, where: str) -> Record:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where} is not valid JSON ({error}).") from None
    if not isinstance(record, dict):
        raise InputError(f"{where} holds a {type(record).__name__} where a JSON object is needed.")
    return record


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


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole: under a temporary name first, then moved into place."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json_lines(path: str | Path, records: Iterable[Record]) -> None:
    """Write one JSON object a line, whole or not at all."""
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
