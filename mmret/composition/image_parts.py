"""Where the subject, the object and the predicate of a text lie in images: the boxes that ComCLIP is given."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmret.composition.scores import Integers, Region
from mmret.errors import InputError

ROLES = ("subject", "object", "predicate")
"""The K roles, in the order of all arrays."""

Box = tuple[float, float, float, float]
Boxes = Mapping[str, tuple[Box, ...]]
"""Role → its boxes."""


@dataclass(frozen=True, eq=False)
class Places:
    """Rows of encoded regions: those of whole images, and of parts by query and image.

    Attributes:
        images: int64 [N], row of each document's whole image.
        usual: int64 [N, K], rows of its parts for every query.
        special: Query position → (int64 [m] documents, int64 [m, K] rows), where a query has boxes of its own.
    """

    images: Integers
    usual: Integers
    special: Mapping[int, tuple[Integers, Integers]]

    def whole(self, documents: Integers) -> Integers:
        """Rows [n] of whole images."""
        return self.images[documents]

    def parts(self, query: int, documents: Integers) -> Integers:
        """Rows [n, K] of the parts that the query sees in these documents."""
        rows = self.usual[documents]
        if query in self.special:
            own, replaced = self.special[query]
            order = np.argsort(own)
            found = order[np.searchsorted(own, documents, sorter=order).clip(max=len(own) - 1)]
            mine = own[found] == documents
            rows[mine] = replaced[found[mine]]
        return rows


@dataclass(frozen=True)
class ImageParts:
    """Boxes of roles in images, and words of roles in queries.

    The file is a list of records. `{"image": id, "subject": [left, top, right, bottom], "object": …, "predicate": …}`
    holds for every query, or for one where it has a `"query"` too, which then counts alone for that pair. A role may
    have a list of boxes, or none. `{"query": id, "subject": "a white dog", "predicate": "chases", …}` without an
    image gives a query's words.

    Attributes:
        boxes: (image, query or "") → role → boxes.
        named: Query → role → words.
        where: The file's name.
    """

    boxes: Mapping[tuple[str, str], Boxes]
    named: Mapping[str, Mapping[str, str]]
    where: str

    @classmethod
    def load(cls, source: str | Path | Sequence[Mapping[str, Any]]) -> ImageParts:
        """Read a JSON file, or take its content.

        Raises:
            InputError: naming the record that is malformed, or given twice.
        """
        records, where = source, "the parts"
        if isinstance(source, str | Path):
            where = Path(source).name
            try:
                records = json.loads(Path(source).read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise InputError(f"cannot read the parts in {source} ({error}).") from error
        if not isinstance(records, list | tuple):
            raise InputError(f"{where} holds a {type(records).__name__}, not a list of records.")
        return cls._parse(records, where)

    @classmethod
    def _parse(cls, records: Sequence[Any], where: str) -> ImageParts:
        boxes: dict[tuple[str, str], Boxes] = {}
        named: dict[str, Mapping[str, str]] = {}
        for number, record in enumerate(records):
            place = f"{where}, record {number}"
            if not isinstance(record, Mapping) or not {"image", "query"} & set(record):
                raise InputError(f"{place} names neither an 'image' nor a 'query'.")
            image, query = (str(record.get(key, "")) for key in ("image", "query"))
            if (image, query) in boxes or (not image and query in named):
                raise InputError(f"{place} repeats image {image!r}, query {query!r}; keep one record of it.")
            given = {role: record[role] for role in ROLES if record.get(role)}
            if image:
                boxes[image, query] = {
                    role: _boxes(value, f"{place}: {role}") for role, value in given.items()
                }
            else:
                named[query] = {role: _words(value, f"{place}: {role}") for role, value in given.items()}
        return cls(boxes, named, where)

    def words(self, query: str) -> Mapping[str, str]:
        """The words of a query's roles; none where the file has none."""
        return self.named.get(query, {})

    def lay_out(self, images: Sequence[str], queries: Sequence[str]) -> tuple[list[Region], Places]:
        """Every region to encode, each once, and where the parts of an image stand among them.

        Raises:
            InputError: if the file names an image or a query that there is not.
        """
        positions = {name: row for row, name in enumerate(images)}
        asked = {name: row for row, name in enumerate(queries)}
        self._check(positions, asked)
        rows: dict[Region, int] = {}

        def place(image: str, query: str) -> list[int]:
            regions = _regions(image, self.boxes.get((image, query), {}))
            return [rows.setdefault(region, len(rows)) for region in regions]

        whole = [rows.setdefault(Region(name, ()), len(rows)) for name in images]
        usual = np.array([place(name, "") for name in images], np.int64)
        special: dict[int, list[tuple[int, list[int]]]] = {}
        for image, query in self.boxes:
            if query:
                special.setdefault(asked[query], []).append((positions[image], place(image, query)))
        by_query = {
            query: (np.array([row for row, _ in pairs]), np.array([found for _, found in pairs]))
            for query, pairs in special.items()
        }
        return list(rows), Places(np.array(whole, np.int64), usual, by_query)

    def _check(self, images: Mapping[str, int], queries: Mapping[str, int]) -> None:
        strangers = sorted({image for image, _ in self.boxes} - set(images))
        unasked = sorted({query for _, query in self.boxes if query} - set(queries))
        if strangers or unasked:
            kind, names = ("images", strangers) if strangers else ("queries", unasked)
            raise InputError(
                f"{self.where} has boxes for {len(names)} {kind} that the benchmark does not have "
                f"({', '.join(names[:5])}); give the file that was made for it."
            )

    def digest(self) -> str:
        """Sixteen hexadecimal digits, equal for equal boxes and words."""
        boxes = sorted((*key, sorted(value.items())) for key, value in self.boxes.items())
        words = sorted((key, sorted(value.items())) for key, value in self.named.items())
        content = [boxes, words]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _regions(image: str, boxes: Boxes) -> list[Region]:
    """The region of each role; a predicate without a box is the union of subject and object."""
    both = (*boxes.get("subject", ()), *boxes.get("object", ()))
    union = both if {"subject", "object"} <= set(boxes) else ()
    found = {role: boxes.get(role, union if role == "predicate" else ()) for role in ROLES}
    return [Region(image, found[role]) for role in ROLES]


def _boxes(value: Any, where: str) -> tuple[Box, ...]:
    """One box or a list of them."""
    boxes = [value] if isinstance(value, list) and value and not isinstance(value[0], list) else value
    sound = isinstance(boxes, list) and all(isinstance(box, list) and _is_box(box) for box in boxes)
    if not sound:
        raise InputError(
            f"{where} is {value!r:.80}; give [left, top, right, bottom], or a list of such boxes."
        )
    return tuple((float(box[0]), float(box[1]), float(box[2]), float(box[3])) for box in boxes)


def _is_box(box: list[Any]) -> bool:
    numbers = len(box) == 4 and all(isinstance(x, int | float) and not isinstance(x, bool) for x in box)
    return numbers and 0 <= box[0] <= box[2] and 0 <= box[1] <= box[3]


def _words(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{where} is {value!r:.80}, where the query's words are needed.")
    return value
