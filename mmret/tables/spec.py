"""A table as data: what its rows run, what its paper printed, and what it claims."""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from mmret.errors import InputError

Settings = Mapping[str, Any]

MARKS: Final[Mapping[str, str]] = {
    "P": "the method's own paper",
    "S": "quoted from a later paper's table",
    "R": "the official repository or its result files",
    "L": "a leaderboard or an evaluation server",
    "M": "mentioned somewhere, unverified",
    "U": "the paper that the table is of, read from a scan: unverified",
}
"""Where a published number was read."""

WITHOUT_BACKBONE: Final = frozenset({"bm25", "dense-text", "hybrid", "rerank"})
"""Methods that make a run without any image encoder, see `mmret.run_methods`."""

DEFAULT_TOLERANCE: Final = 0.1
"""Points (hundredths) by which a reproduction may miss the paper's number and still match it."""


@dataclass(frozen=True)
class Source:
    """The paper whose table this is, and where it stands."""

    paper: str = ""
    url: str = ""


@dataclass(frozen=True)
class RowSpec:
    """One row: a method on a backbone and a benchmark, and the paper's numbers for it.

    Attributes:
        name: Unique in the table; also the name of its files.
        label: What a reader sees.
        method: The composer: its "name" and its arguments, see `mmret.composition.registry`.
        base: The row this one changes; whatever this row leaves out is taken from there.
        pdv: How PDV is set: fixed numbers, a preset, or how to choose ({"select": "val", ...}). None: no PDV.
        scoring: What scores similarities instead: {"name": "seize", ...}. None: nothing.
        train: {"config": a Lightning config or several, and overrides}: what trains φ for each seed. None:
            nothing is trained, and the row has one cell whatever the table's seeds.
        shipped: Options of the method that files of the package give, where the table takes these instead of
            training (see `TableSpec.with_shipped_weights`): {"phi": "mmret/weights/….safetensors"}.
        text_encoder: What encodes the queries' texts in the backbone's place: {"file": ...}, or {"train":
            {"config": ...}}, which trains it for each seed from the row's φ (or from that which "phi" trains). With
            "reference": "frozen" PDV's T_ref stays the backbone's. None: the backbone.
        backbone: Name of the backbone; "" for a method that needs none (`WITHOUT_BACKBONE`).
        benchmark: Name of the benchmark.
        split: Its split.
        protocol: Fields of the benchmark's protocol that this row changes.
        published: Metric → the number in the paper, in the paper's points (× 100).
        mark: Where the numbers were read, a key of `MARKS`.
        unpublished: The paper has such a row, but no number of it could be confirmed.
        note: A remark that stands under the table.
        metrics: What is measured here, the headline first: metrics, or means of some (see `measures`).
        group: The row of the YAML file that this one belongs to, where one stands for several benchmarks.
        section: The benchmark of the YAML file, or the average over several, to which this row belongs.
        average_of: Names of the rows (one a benchmark) whose mean this row is; it has no cells of its own.
    """

    name: str
    label: str
    method: Settings
    backbone: str
    benchmark: str
    split: str
    base: str | None = None
    pdv: Settings | str | None = None
    scoring: Settings | str | None = None
    train: Settings | None = None
    shipped: Settings | None = None
    text_encoder: Settings | None = None
    protocol: Settings = field(default_factory=dict)
    published: Mapping[str, float] = field(default_factory=dict)
    mark: str = "P"
    unpublished: bool = False
    note: str = ""
    metrics: tuple[str, ...] = ()
    group: str = ""
    section: str = ""
    average_of: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """The rows above whose runs this one is made of: those that a hybrid or a re-ranking is `of`."""
        return tuple(self.method.get("of", ()))

    @property
    def title(self) -> str:
        """The label, with the benchmark in a table of several."""
        return f"{self.label}, {self.benchmark}" if self.section else self.label


@dataclass(frozen=True)
class ClaimSpec:
    """The claim that a row beats another in a metric; with a `margin`, that it is at most so many points below it."""

    row: str
    against: str
    metric: str
    margin: float = 0.0


@dataclass(frozen=True)
class TableSpec:
    """A whole table, as `load_spec` reads it.

    Attributes:
        name: Names the folder of its results.
        title: What a reader sees.
        rows: In the order they are printed; a row's base stands above it.
        metrics: All that its rows measure, the headline first.
        seeds: Seeds of the training; a row that trains nothing ignores them.
        claims: What the table is to decide; one family for Holm's correction.
        tolerance: Points by which a number may miss the paper's and still match.
        source: The paper.
        notes: Remarks under the table.
        folder: Folder of the YAML file, from which relative paths are looked up (see `find`).
    """

    name: str
    title: str
    rows: tuple[RowSpec, ...]
    metrics: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    claims: tuple[ClaimSpec, ...] = ()
    tolerance: float = DEFAULT_TOLERANCE
    source: Source = Source()
    notes: tuple[str, ...] = ()
    folder: Path = Path()

    def row(self, name: str) -> RowSpec:
        """The row of that name; InputError when there is none."""
        for row in self.rows:
            if row.name == name:
                return row
        known = ", ".join(row.name for row in self.rows)
        raise InputError(f"Table {self.name} has no row {name!r}; its rows are {known}.")

    def seeds_of(self, row: RowSpec) -> tuple[int, ...]:
        """The seeds of a row's cells: those of the table if it trains, else the single seed 0.

        An average has no cells of its own.
        """
        if row.average_of:
            return ()
        return self.seeds if self._is_trained(row) else (0,)

    def _is_trained(self, row: RowSpec) -> bool:
        tuned = row.text_encoder is not None and "train" in row.text_encoder
        return row.train is not None or tuned or any(self._is_trained(self.row(name)) for name in row.parts)

    def select(self, names: Collection[str]) -> frozenset[str]:
        """The rows of these names, or of the YAML's rows of these names, with those that an average needs."""
        groups = {row.group for row in self.rows}
        chosen = [row for row in self.rows if {row.name, row.group} & set(names)]
        for name in names:
            if name not in groups:
                self.row(name)
        return frozenset(name for row in chosen for name in (row.name, *row.average_of))

    @property
    def sections(self) -> tuple[str, ...]:
        """The benchmarks (and averages) of the table, in order; a table of one benchmark has the section ""."""
        return tuple(dict.fromkeys(row.section for row in self.rows))

    def with_seeds(self, count: int) -> "TableSpec":
        """The same table with its first seeds only."""
        if not 1 <= count <= len(self.seeds):
            raise InputError(f"Table {self.name} lists {len(self.seeds)} seed(s); {count} cannot be taken.")
        return replace(self, seeds=self.seeds[:count])

    def with_shipped_weights(self) -> "TableSpec":
        """The same table, where rows that name shipped weights take these and train nothing."""
        rows = (
            row if row.shipped is None else replace(row, method={**row.method, **row.shipped}, train=None)
            for row in self.rows
        )
        return replace(self, rows=tuple(rows))

    def find(self, path: str) -> Path | None:
        """A file named in the table: from the working directory, or the YAML's folder or one above it."""
        # Unlike those of Path, these answer False for a text that is too long for a path.
        return self._found(path, os.path.isfile)

    def find_folder(self, path: str) -> Path | None:
        """The same of a folder."""
        return self._found(path, os.path.isdir)

    def _found(self, path: str, is_one: Callable[[Path], bool]) -> Path | None:
        places = (folder / path for folder in (Path.cwd(), self.folder, *self.folder.parents))
        return next((place.resolve() for place in places if is_one(place)), None)
