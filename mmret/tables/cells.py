"""A table's cell: one row with one seed; what identifies it, what running it gave, and how that is stored."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmret.atomic import atomic_write
from mmret.data import records
from mmret.errors import InputError
from mmret.tables.spec import Settings

FORMAT: Final = 1
"""Of the stored record; raised when its fields change."""

_OUTCOME_FIELDS: Final = ("protocol", "pdv", "config", "facts", "submission")
"""What the JSON holds of an outcome, beside the arrays."""

_QUERY: Final = "per_query/"
_EXTRA: Final = "arrays/"


def digest(value: object) -> str:
    """SHA-256 (64 hexadecimal digits) of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    """What JSON does not know: numpy's numbers as numbers, paths and dates as text."""
    return value.item() if isinstance(value, np.generic) else str(value)


@dataclass(frozen=True)
class CellRequest:
    """What a runner is asked for: everything it needs, with every path of the table made absolute.

    `description` holds all that changes the number (fingerprint of the backbone, version and protocol of the
    benchmark, contents of the training configs, digests of weight files, method, PDV, metrics, seed); names
    and places are left out. `folder` is the table's folder of results: stores and checkpoints that cells
    share may be kept beside it. With `allow_missing` images that are not there are gone on without; the
    benchmark's version then says so, and so does the identity.
    """

    table: str
    row: str
    seed: int
    backbone: str
    benchmark: str
    split: str
    protocol: Settings
    metrics: tuple[str, ...]
    method: Settings
    pdv: Settings | str | None
    train: Settings | None
    description: Settings
    folder: Path
    allow_missing: bool = False
    scoring: Settings | str | None = None
    text_encoder: Settings | None = None
    parts: tuple["CellRequest", ...] = ()
    """The cells whose runs this one is made of, in the order of the method's `of`."""

    @cached_property
    def identity(self) -> str:
        """Two cells with the same identity have the same number."""
        return digest(self.description)

    @cached_property
    def train_identity(self) -> str | None:
        """Cells with the same one share their trained φ; None when nothing is trained."""
        return self._trained_by(self.description["train"]) if self.train is not None else None

    @cached_property
    def phi_identity(self) -> str | None:
        """The same of the φ that the text encoder is trained from: the row's, or one of its own."""
        own = self.description["text_encoder"].get("phi") if self.text_encoder is not None else None
        return self.train_identity if own is None else self._trained_by(own)

    @cached_property
    def text_identity(self) -> str | None:
        """Cells with the same one share their trained text encoder; None when none is trained."""
        if self.text_encoder is None or "train" not in self.text_encoder:
            return None
        # A φ that is a file is known by its digest among the description's files.
        source = self.phi_identity or [self.description["files"], self.description["method"]]
        return digest([source, self._trained_by(self.description["text_encoder"]["train"])])

    def _trained_by(self, train: Settings) -> str:
        return digest({**{key: self.description[key] for key in ("backbone", "seed")}, "train": train})

    @property
    def path(self) -> Path:
        """The JSON file of this cell's record."""
        return self.folder / f"{self.row}.seed{self.seed}.{self.identity[:12]}.json"

    @property
    def run_path(self) -> Path:
        """Where this cell's run lies."""
        return self.path.with_suffix(".run.npz")

    @property
    def submission_folder(self) -> Path:
        """Where this cell's files for an evaluation server lie."""
        return self.path.with_suffix(".submission")


@dataclass(frozen=True)
class CellOutcome:
    """What a runner gives back.

    Attributes:
        query_ids: The judged queries, Q of them.
        references: The reference image of each query (queries of one reference are resampled together); a
            query without one names itself.
        per_query: Metric → float array [Q], 0…1. Empty where the ground truth is not public.
        protocol: The protocol's fields as they were applied.
        pdv: The PDV setting that was applied, after any choosing.
        config: The whole experiment as it was resolved (kept for the record only).
        facts: Anything worth keeping: ties, times, the score on val.
        arrays: Any arrays worth keeping, such as a sweep's grid and its values.
        submission: The files that were written for the benchmark's evaluation server, in the cell's
            `submission_folder`: name → SHA-256. Such a cell awaits the server's score (see `server`).
    """

    query_ids: Sequence[str]
    references: Sequence[str]
    per_query: Mapping[str, NDArray[np.floating]]
    protocol: Settings
    pdv: Settings | None = None
    config: Settings = field(default_factory=dict)
    facts: Settings = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    submission: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse arrays of another length, values that no metric can have, and an outcome of nothing."""
        if not self.per_query and not self.submission:
            raise ValueError("An outcome holds values of metrics or files for an evaluation server.")
        count = len(self.query_ids)
        if not count or len(self.references) != count:
            raise ValueError(f"{count} queries and {len(self.references)} references; one each is needed.")
        for name, values in self.per_query.items():
            # Written so that NaN fails too.
            if values.shape != (count,) or not ((values >= 0) & (values <= 1)).all():
                raise ValueError(f"{name} is not {count} values from 0 to 1; its shape is {values.shape}.")


@dataclass(frozen=True)
class CellRecord:
    """An outcome with where it came from: what is stored, and what tables are made of.

    Attributes:
        identity: Of the request that it answers.
        table: Name of the table.
        row: Name of the row.
        seed: Of the training.
        description: The request's.
        outcome: What the runner gave.
        versions: Package → version.
        revision: Commit of the source tree.
        wall_seconds: How long the runner took.
        finished: Date and time (ISO 8601, UTC).
    """

    identity: str
    table: str
    row: str
    seed: int
    description: Settings
    outcome: CellOutcome
    versions: Mapping[str, str]
    revision: str
    wall_seconds: float
    finished: str

    @property
    def means(self) -> dict[str, float]:
        """Metric → mean over the queries, 0…1."""
        return {name: float(np.mean(values)) for name, values in self.outcome.per_query.items()}

    def save(self, path: Path) -> None:
        """Write the record as JSON and its arrays beside it (.npz); a kill leaves the old pair or none.

        The JSON holds the arrays' digest and is written last: a torn pair is never taken for a result.
        """
        arrays = _arrays_bytes(self.outcome)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path.with_suffix(".npz")) as handle:
            handle.write(arrays)
        record = {
            "format": FORMAT,
            **{key: value for key, value in vars(self).items() if key != "outcome"},
            "means": self.means,
            **{key: getattr(self.outcome, key) for key in _OUTCOME_FIELDS},
            "arrays_sha256": hashlib.sha256(arrays).hexdigest(),
        }
        with atomic_write(path) as handle:
            handle.write(json.dumps(record, indent=1, ensure_ascii=False, default=_plain).encode())

    @classmethod
    def load(cls, path: Path) -> "CellRecord":
        """Read what `save` wrote; InputError when a file is missing, damaged or of another format."""
        record = records.read_json(path)
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise InputError(f"{path} is not a table's cell of format {FORMAT}; delete it to run it again.")
        arrays = _load_arrays(path.with_suffix(".npz"), record["arrays_sha256"])
        outcome = CellOutcome(
            query_ids=arrays["query_ids"].tolist(),
            references=arrays["references"].tolist(),
            per_query=_with_prefix(arrays, _QUERY),
            arrays=_with_prefix(arrays, _EXTRA),
            **{key: record[key] for key in _OUTCOME_FIELDS if key in record},
        )
        _check_submission(outcome.submission, path.with_suffix(".submission"))
        names = ("identity", "table", "row", "seed", "description")
        origin = ("versions", "revision", "wall_seconds", "finished")
        return cls(outcome=outcome, **{key: record[key] for key in (*names, *origin)})


def file_digest(path: Path) -> str:
    """SHA-256 (64 hexadecimal digits) of a file's content; of nothing where there is no file."""
    return hashlib.sha256(path.read_bytes() if path.is_file() else b"").hexdigest()


def _check_submission(files: Mapping[str, str], folder: Path) -> None:
    """Refuse files for a server that are no longer those of the record."""
    changed = [name for name, expected in files.items() if file_digest(folder / name) != expected]
    if changed:
        raise InputError(
            f"{folder / changed[0]} is missing or not what was written for the server; the cell must run again."
        )


def _arrays_bytes(outcome: CellOutcome) -> bytes:
    buffer = BytesIO()
    arrays: dict[str, Any] = {f"{_QUERY}{name}": values for name, values in outcome.per_query.items()}
    arrays |= {f"{_EXTRA}{name}": values for name, values in outcome.arrays.items()}
    arrays |= {"query_ids": np.array(outcome.query_ids), "references": np.array(outcome.references)}
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _load_arrays(path: Path, expected: str) -> dict[str, NDArray[Any]]:
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != expected:
        raise InputError(
            f"{path} is missing or not what its record was written with; the cell must run again."
        )
    with np.load(BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)


def _with_prefix(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
