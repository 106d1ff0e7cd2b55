"""Captions of reference images and their edits, as caption methods leave them in JSON files.

CIReVL (Karthik et al., arXiv 2310.09291) captions the reference image and lets a language model edit the
caption; its file holds `base_caption`, `instruction` and `modified_captions`, as three parallel lists in the
order of the queries. LDRE (Yang et al., SIGIR 2024) does so fifteen times per query; its annotation records
hold `multi_caption_opt` and `multi_gpt-3.5_opt`, lists of 15 beside the query's `id`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmret.errors import InputError

CIREVL_KEYS = ("base_caption", "modified_captions", "instruction")
LDRE_KEYS = ("multi_caption_opt", "multi_gpt-3.5_opt", "relative_caption")
"""Per layout: the keys of the captions, of the edited captions, and of the edit itself (may be absent)."""

ID_KEYS = ("id", "query_id", "pairid", "pair_id")
"""Where a record may carry its query's id: CIRCO's and ours first, then CIRR's."""

ANSWER_MARK = "Edited Description:"
"""How CIReVL's and LDRE's prompts make the language model begin its answer."""


@dataclass(frozen=True)
class CaptionPair:
    """What one query's reference image shows, before and after the edit: one or more captions each.

    `instruction` is the edit itself where the file has it, else "".
    """

    reference: tuple[str, ...]
    composed: tuple[str, ...]
    instruction: str = ""


def edited_description(answer: str) -> str:
    """The edited caption in a language model's `answer`, stripped.

    That is everything behind the first "Edited Description:" on its line, or the whole answer if there is
    none. A further colon belongs to the caption ("a sign that says: open"); CIReVL's released code, which
    splits at every colon, loses what follows it.
    """
    for line in answer.splitlines():
        if line.strip().startswith(ANSWER_MARK):
            return line.strip().removeprefix(ANSWER_MARK).strip()
    return answer.strip()


@dataclass(frozen=True)
class CaptionEdits:
    """The captions of a benchmark's queries, before and after the edit.

    Attributes:
        pairs: query id → captions.
        where: the file's name, for messages and records.
        by_position: whether the ids were not in the file but came from the records' order.
    """

    pairs: Mapping[str, CaptionPair]
    where: str
    by_position: bool

    @classmethod
    def load(
        cls, source: str | Path | Mapping[str, Any] | Sequence[Any], ids: Sequence[str] | None = None
    ) -> CaptionEdits:
        """The captions in a JSON file or in its content; errors as in `parse`, or the file cannot be read."""
        if isinstance(source, str | Path):
            return cls.read(source, ids)
        return cls.parse(source, "the caption records", ids)

    @classmethod
    def read(cls, path: str | Path, ids: Sequence[str] | None = None) -> CaptionEdits:
        """The captions in a JSON file; arguments and errors as in `parse`, or the file cannot be read."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot read the captions in {path} ({error.strerror}).") from error
        except ValueError as error:
            raise InputError(f"{path} is not valid JSON ({error}).") from error
        return cls.parse(content, Path(path).name, ids)

    @classmethod
    def parse(cls, content: Any, where: str, ids: Sequence[str] | None = None) -> CaptionEdits:
        """The captions in the content of a JSON file, in any of the layouts.

        Args:
            content: CIReVL's three parallel lists (with an optional fourth, `ids`); a list of records, each
                with an id under one of `ID_KEYS`; or an object query id → record. A record has CIReVL's keys
                or LDRE's, each with a string or a list of strings.
            where: the file's name.
            ids: the query ids in the order of CIReVL's lists. Without these and without `ids` in the file
                the ids are the positions "0", "1", …, which are CIRCO's own.

        Raises:
            InputError: naming the first record with a missing key, an empty caption or a repeated id; or
                lists of different lengths; or another layout.
        """
        pairs: dict[str, CaptionPair] = {}
        for query_id, record in _records(content, where, ids):
            if query_id in pairs:
                raise InputError(f"{where} holds query {query_id!r} twice; keep one record of it.")
            pairs[query_id] = _pair(record, f"{where}, query {query_id!r}")
        parallel = isinstance(content, Mapping) and CIREVL_KEYS[0] in content
        return cls(pairs, where, parallel and "ids" not in content)

    def check(self, query_ids: Sequence[str], texts: Sequence[Sequence[str]] | None = None) -> None:
        """Raise one `InputError` that names every query without captions, or with another query's.

        The latter is looked for where the ids came from the records' order and `texts` are given: then the
        file's instruction must consist of words of one of the query's texts.
        """
        missing = [query_id for query_id in query_ids if query_id not in self.pairs]
        if missing:
            raise InputError(
                f"{self.where} has no captions for {len(missing)} of {len(query_ids)} queries "
                f"({', '.join(missing)}); caption and edit these too."
            )
        known = zip(query_ids, texts, strict=True) if texts is not None and self.by_position else ()
        strangers = [name for name, own in known if not _agree(self.pairs[name].instruction, own)]
        if strangers:
            raise InputError(
                f"{self.where} has another instruction than the benchmark for {len(strangers)} of "
                f"{len(query_ids)} queries ({', '.join(strangers)}); give `ids` in the order of its records."
            )

    def digest(self) -> str:
        """Sixteen hexadecimal digits, equal for equal captions whatever file they stand in."""
        content = sorted((key, pair.reference, pair.composed) for key, pair in self.pairs.items())
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _agree(instruction: str, texts: Sequence[str]) -> bool:
    """Whether one of the texts holds all words of the instruction, in any order, "and" (a joint) aside."""
    needed = Counter(re.findall(r"\w+", instruction.lower()))
    del needed["and"]
    return not texts or any(needed <= Counter(re.findall(r"\w+", text.lower())) for text in texts)


def _records(source: Any, where: str, ids: Sequence[str] | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(query id, record) of every query in any layout."""
    if isinstance(source, Mapping) and CIREVL_KEYS[0] in source:
        return _parallel_records(source, where, ids)
    if isinstance(source, Mapping):
        return ((str(query_id), record) for query_id, record in source.items())
    if isinstance(source, Sequence) and not isinstance(source, str):
        return ((_record_id(record, row, where), record) for row, record in enumerate(source))
    raise InputError(f"{where} holds a {type(source).__name__}, not the records of CIReVL or LDRE.")


def _parallel_records(
    source: Mapping[str, Any], where: str, ids: Sequence[str] | None
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """CIReVL's three lists as records."""
    columns = {key: source[key] for key in CIREVL_KEYS if key in source}
    names = ids or source.get("ids") or [str(position) for position in range(len(columns[CIREVL_KEYS[0]]))]
    lengths = {key: len(column) for key, column in columns.items()} | {"ids": len(names)}
    if len(set(lengths.values())) != 1:
        raise InputError(f"the lists in {where} have different lengths: {lengths}; they go query by query.")
    rows = zip(*columns.values(), strict=True)
    return ((str(name), dict(zip(columns, row, strict=True))) for name, row in zip(names, rows, strict=True))


def _record_id(record: Any, row: int, where: str) -> str:
    """The query id that a record carries."""
    found = [record[key] for key in ID_KEYS if key in record] if isinstance(record, Mapping) else []
    if not found:
        raise InputError(f"record {row} of {where} has no id under {', '.join(ID_KEYS)}.")
    return str(found[0])


def _pair(record: Any, where: str) -> CaptionPair:
    """The captions of one record.

    An edit that came out empty is left out; with none left, the bare instruction stands in, as in CIReVL.
    """
    keys = LDRE_KEYS if isinstance(record, Mapping) and LDRE_KEYS[0] in record else CIREVL_KEYS
    absent = [key for key in keys[:2] if not isinstance(record, Mapping) or key not in record]
    if absent:
        raise InputError(f"{where} lacks {' and '.join(absent)} (CIReVL's or LDRE's keys).")
    instruction = str(record.get(keys[2], "")).strip()
    reference = _texts(record[keys[0]], f"{keys[0]} of {where}")
    composed = tuple(filter(None, map(edited_description, _texts(record[keys[1]], f"{keys[1]} of {where}"))))
    composed = composed or ((instruction,) if instruction else ())
    if not reference or not composed:
        raise InputError(f"{where} has an empty caption under {keys[1] if reference else keys[0]}.")
    return CaptionPair(reference, composed, instruction)


def _texts(value: Any, where: str) -> tuple[str, ...]:
    """One string or a list of strings, as the tuple of those that are not empty."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{where} is {value!r:.80}, not a string or a list of strings.")
    return tuple(text.strip() for text in texts if text.strip())
