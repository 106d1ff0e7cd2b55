"""Captions of a file one after the other, however large it is."""

import json
from collections.abc import Iterator
from pathlib import Path

from mmret.data import records
from mmret.errors import InputError


def stream_captions(path: str | Path) -> Iterator[str]:
    """The captions of a file, in order, blank ones included so that rows keep their numbers.

    `.txt`: one a line. `.jsonl`: objects with `caption`, or `captions` (a list), one a line. Both are read line by
    line. Any other name: a JSON list of such objects or of texts, or COCO's layout (such a list under
    `annotations`), read whole.

    Raises:
        InputError: the file is missing or malformed; the sentence names the line.
    """
    source = Path(path)
    if not source.is_file():
        raise InputError(f"There is no file {path}.")
    if source.suffix not in (".txt", ".jsonl"):
        for place, value in enumerate(_listed(records.read_json(source), path)):
            yield from _texts(value, f"{path}, item {place}")
        return
    try:
        with source.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if source.suffix == ".txt":
                    yield line.strip()
                elif line.strip():
                    yield from _texts(_parsed(line, f"{path}:{number}"), f"{path}:{number}")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error}).") from None


def _listed(content: object, path: str | Path) -> list[object]:
    """The list that a JSON file is, or that stands under `annotations` in it."""
    found = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(found, list):
        raise InputError(
            f"{path} is no list of captions, and has none under 'annotations' as COCO's files do."
        )
    return found


def _parsed(line: str, where: str) -> object:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where} is not valid JSON ({error}).") from None


def _texts(value: object, where: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, dict):
        raise InputError(f"{where} is {value!r}, where a caption or an object with one is needed.")
    key = "captions" if "captions" in value else "caption"
    return records.strings(records.field(value, key, object, where), key, where)
