"""Text triplets: composed queries in text alone, as RTD trains on them (Byun et al., arXiv 2406.09188).

They are read row by row into one compact store (some 30 bytes a triplet beside its text), so that a million rows
never stand in memory as a million dictionaries. Known columns are RTD's own and InstructPix2Pix's; others are named
by `columns`. What cannot be used is refused with a count, or dropped with a warning that counts.
"""

import warnings
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmret.data import records
from mmret.errors import InputError, InputWarning, missing_extra

HUB: Final = "hub:"
#: Columns of known sources, the first that fit: RTD's, those of InstructPix2Pix's prompt files, and those of its
#: data set on the hub (timbrooks/instructpix2pix-clip-filtered).
KNOWN_COLUMNS: Final = (
    ("reference_caption", "conditioning_caption", "target_caption"),
    ("caption", "edit", "output"),
    ("original_prompt", "edit_prompt", "edited_prompt"),
)
_ROWS_AT_A_TIME = 8_192

Row = tuple[str, records.Record]


@dataclass(frozen=True)
class TextTriplet:
    """A composed query in text alone: what the reference shows, the edit, what the target shows."""

    reference_caption: str
    conditioning_caption: str
    target_caption: str


class TextTriplets:
    """A map-style dataset of triplets, stored as one run of UTF-8 with offsets."""

    def __init__(self, triplets: Iterable[TextTriplet] = ()) -> None:
        self._text, self._ends, self._keys = bytearray(), array("q"), array("q")
        for triplet in triplets:
            self.append(triplet)

    def append(self, triplet: TextTriplet) -> None:
        """Add a triplet at the end."""
        for text in astuple(triplet):
            self._text += text.encode()
            self._ends.append(len(self._text))
        self._keys.extend((caption_key(triplet.reference_caption), caption_key(triplet.target_caption)))

    def __len__(self) -> int:
        return len(self._ends) // 3

    def __getitem__(self, index: int) -> TextTriplet:
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = self._ends[3 * index - 1] if index else 0
        texts = []
        for end in self._ends[3 * index : 3 * index + 3]:
            texts.append(self._text[start:end].decode())
            start = end
        return TextTriplet(*texts)

    @property
    def caption_keys(self) -> NDArray[np.int64]:
        """[N, 2]: `caption_key` of every reference and target caption."""
        return np.array(self._keys, dtype=np.int64).reshape(-1, 2)

    def __repr__(self) -> str:
        return f"TextTriplets({len(self):,} triplets)"


def caption_key(text: str) -> int:
    """A 64-bit number, the same for captions that differ in case and white space alone, as CLIP's tokenizer reads them.

    Others differ (but for a collision, of which a million captions hold one with probability 3e-8).
    """
    same = " ".join(text.lower().split())
    return int.from_bytes(blake2b(same.encode(), digest_size=8).digest(), "little", signed=True)


def read_text_triplets(
    source: str | Path, *, split: str = "train", columns: Sequence[str] = (), drop_unusable: bool = False
) -> TextTriplets:
    """Read text triplets.

    Args:
        source: A `.json` (a list of objects), `.jsonl` or `.parquet` file, or `hub:NAME`: a data set of the Hugging
            Face hub, or a local folder in its layout, streamed by `datasets` (extra `hub`).
        split: Of a data set of the hub.
        columns: Names of the columns of reference caption, condition and target caption; by default the first of
            `KNOWN_COLUMNS` that fit.
        drop_unusable: Leave out rows with a missing field, an empty text, or a target caption that is the reference's,
            with an `InputWarning` that counts them.

    Raises:
        InputError: such rows, unless they are dropped; a file that is missing, malformed, or without usable rows.
    """
    if columns and len(columns) != 3:
        raise InputError(f"columns names {', '.join(columns)}; name three: reference, condition and target.")
    name = str(source)
    rows = _hub_rows(name.removeprefix(HUB), split, columns) if name.startswith(HUB) else _rows(name, columns)
    return _collect(rows, name, columns, drop_unusable)


def _rows(path: str, columns: Sequence[str]) -> Iterator[Row]:
    return _parquet_rows(path, columns) if Path(path).suffix == ".parquet" else records.read_records(path)


def _collect(rows: Iterable[Row], source: str, columns: Sequence[str], drop: bool) -> TextTriplets:
    """The usable rows; the others are counted, and the first of them is named."""
    triplets, unusable, first = TextTriplets(), 0, ""
    for where, record in rows:
        names = columns or _columns_in(record)
        problem = _problem(record, names)
        if problem:
            unusable += 1
            first = first or f"{where}: {problem}"
        else:
            triplets.append(TextTriplet(*(record[name] for name in names)))
    if not triplets:
        raise InputError(f"{source} has no usable text triplet" + (f"; first {first}." if first else "."))
    if unusable:
        counted = (
            f"{source}: {unusable:,} of {len(triplets) + unusable:,} rows are no text triplets; first {first}"
        )
        if not drop:
            raise InputError(f"{counted}. Mend them, or leave them out: drop_unusable: true.")
        warnings.warn(f"{counted}. They are left out.", InputWarning, stacklevel=3)
    return triplets


def _columns_in(names: Iterable[str]) -> Sequence[str]:
    """The known columns that fit best, so that a missing one can be named."""
    present = set(names)
    return max(KNOWN_COLUMNS, key=lambda known: len(present & set(known)))


def _problem(record: records.Record, columns: Sequence[str]) -> str:
    """What is wrong with a row, or nothing."""
    for name in columns:
        value = record.get(name)
        if value is None:
            return f"{name!r} is missing among {', '.join(map(repr, record)) or 'no columns'}"
        if not isinstance(value, str):
            return f"{name!r} is {value!r}, no text"
        if not value.strip():
            return f"{name!r} is empty"
    reference, _, target = (record[name] for name in columns)
    return (
        "reference and target captions are the same" if caption_key(reference) == caption_key(target) else ""
    )


def _parquet_rows(path: str, columns: Sequence[str]) -> Iterator[Row]:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise missing_extra(path, "pyarrow", "hub") from None
    try:
        file = ParquetFile(path)
        present = file.schema_arrow.names
        wanted = [name for name in columns or _columns_in(present) if name in present]
        rows = (
            row for batch in file.iter_batches(_ROWS_AT_A_TIME, columns=wanted) for row in batch.to_pylist()
        )
        yield from ((f"{path}, row {number}", row) for number, row in enumerate(rows))
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except pyarrow.ArrowException as error:
        raise InputError(f"{path} is no readable parquet file ({str(error).splitlines()[0]}).") from None


def _hub_rows(name: str, split: str, columns: Sequence[str]) -> Iterator[Row]:
    try:
        import datasets
    except ImportError:
        raise missing_extra("A data set of the hub", "datasets", "hub") from None
    try:
        rows: Any = datasets.load_dataset(name, split=split, streaming=True)
        present = rows.column_names or ()
        wanted = [column for column in columns or _columns_in(present) if column in present]
        # Without the others: a row's images would be decoded only to be thrown away.
        rows = rows.select_columns(wanted) if wanted else rows
        yield from ((f"{HUB}{name}, row {number}", row) for number, row in enumerate(rows))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"the data set {name!r}, split {split!r}, cannot be read ({reason}).") from error
