"""PDV by hand: three similarity matrices made once, from which every setting of its knobs is ranked at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmret.composition import PDV, ComposedFeatures
from mmret.composition.grid import knobs, weights
from mmret.display import Gallery, make_example
from mmret.encoded_benchmark import EncodedBenchmark
from mmret.errors import InputError, missing_extra
from mmret.figures import DrawnMap, HeatMap, Picture, prepare_heat_map
from mmret.tables.formats import html
from mmret.tables.grids import Column, Entry, Grid

if TYPE_CHECKING:
    from ipywidgets import Widget

Floats = NDArray[np.float32]
Ranks = NDArray[np.int64]

BASE = PDV()
"""The base method: α_text = α_image = β = 1."""

BETAS = tuple(np.linspace(0, 1, 11).round(2))
GAMMAS = tuple(np.linspace(-0.5, 2.5, 13).round(2))
"""The heat map's β and γ; γ covers what β and the α of the paper's sweeps make of it, but for the far ends."""

SLIDERS = {"alpha_text": (-0.5, 3.0, 0.1), "alpha_image": (-0.5, 2.0, 0.1), "beta": (0.0, 1.0, 0.05)}
"""Knob → lowest value, highest value and step: the paper's sweeps."""


@dataclass(frozen=True)
class Difference:
    """A query with the rank (from 1) of its first relevant image by the base method and by another setting."""

    query_id: str
    text: str
    base: int
    moved: int


@dataclass(frozen=True)
class DifferenceTable:
    """Queries that moved, as a line or, in a notebook, as a table."""

    grid: Grid

    def __repr__(self) -> str:
        """The caption: the setting, and how many queries gain, lose and stay."""
        return self.grid.caption

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return html([self.grid], ["Rank of the first relevant image, from 1."])


class Explorer:
    """A method's queries on a benchmark, ready to be ranked under any PDV setting.

    The whole gallery is ranked (less an excluded reference); subset pools are left aside.

    Args:
        encoded: The benchmark with its images' vectors; its ground truth must be public.
        features: The method's features of all queries, in the benchmark's order.

    Raises:
        InputError: The features are not one a query, or a query has no ground truth.
    """

    def __init__(self, encoded: EncodedBenchmark, features: ComposedFeatures) -> None:
        self.benchmark, self.index, self.features = encoded.benchmark, encoded.index, features
        queries = self.benchmark.queries
        if len(features) != len(queries) or not all(query.targets for query in queries):
            raise InputError(
                f"{self.benchmark.name} {self.benchmark.split} has {len(queries)} queries, of which "
                f"{len(self.benchmark.judgements)} are judged, and there are {len(features)} features; exploring "
                "takes one each."
            )
        self.rows = {query.id: row for row, query in enumerate(queries)}

    def __repr__(self) -> str:
        """One line: the benchmark and the sizes of the matrices."""
        return f"Explorer({self.benchmark.name} {self.benchmark.split}: 3 × {self.similarities.shape[1:]})"

    @cached_property
    def vectors(self) -> Floats:
        """V_ref, T_ref and T_comp of all queries, float32 [3, Q, D]."""
        own = self.features
        three = (own.reference_image, own.reference_text, own.composed_text)
        return np.stack([part.detach().float().cpu().numpy() for part in three])

    @cached_property
    def similarities(self) -> Floats:
        """The three matrices, float32 [3, Q, N], with the gallery in ascending order of id (as ties are broken)."""
        return self.vectors @ np.asarray(self.index.vectors)[self.index.rows_by_id].T

    @cached_property
    def ids(self) -> list[str]:
        """The gallery in the order of the matrices' columns."""
        return [self.index.ids[row] for row in self.index.rows_by_id]

    @cached_property
    def _masks(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """What is relevant and what is left out, bool [Q, N] each."""
        columns = {name: column for column, name in enumerate(self.ids)}
        relevant, left_out = np.zeros((2, *self.similarities.shape[1:]), np.bool_)
        for row, query in enumerate(self.benchmark.queries):
            relevant[row, [columns[name] for name in query.targets]] = True
            excluded = self.benchmark.exclusions.get(query.id, ())
            left_out[row, [columns[name] for name in excluded if name in columns]] = True
        return relevant, left_out

    def scores(self, setting: PDV, rows: slice | Sequence[int] = slice(None)) -> Floats:
        """Cosine similarities of some queries (all by default) to the gallery, float32 [q, N]; −inf: left out."""
        beta, gamma = knobs([setting], self.features)
        own = weights(np.repeat(beta, len(gamma[0])), gamma[0])[rows].T.astype(np.float32)  # [3, q]
        norms = np.linalg.norm((own[..., None] * self.vectors[:, rows]).sum(axis=0), axis=1)
        mixed = np.einsum(
            "mq,mqn->qn", own / np.maximum(norms, np.finfo(np.float32).tiny), self.similarities[:, rows]
        )
        return np.where(self._masks[1][rows], -np.inf, mixed)

    def ranking(self, query_id: str, setting: PDV, depth: int = 10) -> list[tuple[str, float]]:
        """The best `depth` images of a query with their scores."""
        scores = self.scores(setting, [self._row(query_id)])[0]
        best = np.argsort(-scores, kind="stable")[:depth]
        return [(self.ids[column], float(scores[column])) for column in best if np.isfinite(scores[column])]

    def ranks(self, setting: PDV) -> Ranks:
        """The rank (from 1) of every query's first relevant image, int64 [Q]."""
        scores, relevant = self.scores(setting), self._masks[0]
        first = np.where(relevant, scores, -np.inf).argmax(axis=1)[:, None]
        best = np.take_along_axis(scores, first, axis=1)
        ahead = (scores > best) | ((scores == best) & (np.arange(scores.shape[1]) < first))
        ranks: Ranks = 1 + ahead.sum(axis=1)
        return ranks

    def knobs(self, setting: PDV) -> tuple[float, float]:
        """Where the setting lies on the heat map: β and γ (its mean over queries where α_image is automatic)."""
        beta, gamma = knobs([setting], self.features)
        return float(beta[0]), float(gamma[0].mean())

    def heat_map(self, k: int = 10) -> DrawnMap:
        """success@k of all queries over β and γ; no setting is encoded again."""
        places = list(product(BETAS, GAMMAS))
        values = [(self.ranks(PDV(gamma, gamma, beta)) <= k).mean() for beta, gamma in places]
        beta, gamma = np.array(places).T
        where = f"{self.benchmark.name} {self.benchmark.split}"
        base = {"base": (1.0, 1.0)}
        return prepare_heat_map(HeatMap(beta, gamma, np.array(values), f"success@{k}", where, base))

    def place(self, drawn: DrawnMap, setting: PDV) -> Picture:
        """The heat map with the setting marked; it is not drawn again."""
        return drawn.mark("here", *self.knobs(setting))

    def gallery(self, query_ids: Sequence[str], setting: PDV, depth: int = 8) -> Gallery:
        """The queries' rankings by the base method and by the setting, with the relevant images outlined."""
        examples = tuple(self._example(query_id, setting, depth) for query_id in query_ids)
        return Gallery(f"{self.benchmark.name} {self.benchmark.split}: {setting}", examples)

    def _example(self, query_id: str, setting: PDV, depth: int) -> Any:
        query = self.benchmark.queries[self._row(query_id)]
        # Deeper than what is shown, so that the line above says where the first hit stands.
        rankings = {
            label: self.ranking(query_id, each, 50) for label, each in (("base", BASE), ("PDV", setting))
        }
        texts = " · ".join(query.texts)
        return make_example(
            self.benchmark.images,
            rankings,
            query_id=query_id,
            text=texts,
            reference=query.reference,
            relevant=query.targets,
            depth=depth,
        )

    def differences(self, setting: PDV) -> tuple[Difference, ...]:
        """The queries whose first relevant image moved, those that gain most (in reciprocal rank) first."""
        base, moved = self.ranks(BASE), self.ranks(setting)
        order = np.argsort(1 / base - 1 / moved, kind="stable")
        queries = [self.benchmark.queries[row] for row in order if base[row] != moved[row]]
        return tuple(
            Difference(query.id, " · ".join(query.texts), int(base[row]), int(moved[row]))
            for query in queries
            for row in [self.rows[query.id]]
        )

    def _row(self, query_id: str) -> int:
        if query_id not in self.rows:
            raise InputError(f"{self.benchmark.name} {self.benchmark.split} has no query {query_id!r}.")
        return self.rows[query_id]


def show_differences(explorer: Explorer, setting: PDV, count: int = 5) -> DifferenceTable:
    """The queries that gain most and those that lose most, and how many there are of each."""
    found = explorer.differences(setting)
    gains = [item for item in found if item.moved < item.base]
    losses = [item for item in found if item.moved > item.base]
    shown = [*gains[:count], *(losses[-count:] if losses else [])]
    columns = (Column("Query", False), Column("Edit", False), Column("Rank, base"), Column("Rank, PDV"))
    body = tuple(tuple(_entries(item)) for item in shown)
    line = f"{setting}: {len(gains)} queries gain, {len(losses)} lose, {len(explorer.rows) - len(found)} stay"
    return DifferenceTable(Grid(line, columns, body))


def _entries(item: Difference) -> Iterator[Entry]:
    yield Entry(item.query_id)
    yield Entry(item.text)
    yield Entry(str(item.base))
    yield Entry(str(item.moved), tone="good" if item.moved < item.base else "bad")


def panel(explorer: Explorer, heat_map: DrawnMap, query_ids: Sequence[str], depth: int = 8) -> "Widget":
    """Sliders for α_text, α_image and β, which move a query's ranking and the place on the heat map at once.

    Raises:
        InputError: ipywidgets is not installed, or there is no query of such a name.
    """
    try:
        import ipywidgets as widgets
    except ImportError:
        raise missing_extra("The panel of sliders", "ipywidgets", "notebooks") from None
    knob = {
        name: widgets.FloatSlider(1.0, min=low, max=high, step=step, description=name)
        for name, (low, high, step) in SLIDERS.items()
    }
    query = widgets.Dropdown(options=list(query_ids), description="query")
    ranking, place = widgets.HTML(), widgets.HTML()

    def show(_: object = None) -> None:
        setting = PDV(**{name: slider.value for name, slider in knob.items()})
        ranking.value = explorer.gallery([query.value], setting, depth)._repr_html_()
        place.value = explorer.place(heat_map, setting)._repr_html_()

    for control in (*knob.values(), query):
        control.observe(show, names="value")
    show()
    return widgets.VBox([widgets.HBox([widgets.VBox([query, *knob.values()]), place]), ranking])
