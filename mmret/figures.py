"""Figures of a report as inline SVG that follows the page's colours and fonts."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from mmret.errors import InputError
from mmret.tables.cells import CellRecord
from mmret.tables.spec import Settings
from mmret.tables.summary import POINTS, Estimate
from mmret.tables.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = Sequence[tuple[float, float]]
"""(step, value) pairs."""

# Stand-ins that no figure would use, replaced in the SVG: so the page's light and dark schemes reach it.
_INK: Final = "#010203"
_ACCENT: Final = "#040506"
_PAGE_COLOURS: Final = {_INK: "currentColor", _ACCENT: "var(--accent, #2456c7)"}

_SETTINGS: Final[Any] = {
    "svg.fonttype": "none",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "text.parse_math": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
}

_MARKERS: Final = "o*DsP^v"

_LEVELS: Final = 128
"""Steps of γ in each column of a heat map."""


@dataclass(frozen=True)
class Picture:
    """An inline SVG with its title, and what is to be seen on it, in a few short texts."""

    title: str
    svg: Markup
    details: tuple[str, ...]

    def _repr_html_(self) -> str:
        """What a notebook shows: the picture with its title and details below."""
        caption = escape(" · ".join((self.title, *self.details)))
        return f"<figure>{self.svg}<figcaption>{caption}</figcaption></figure>"


@dataclass(frozen=True)
class HeatMap:
    """A metric over PDV's two effective knobs.

    Attributes:
        beta: β of each setting, [n].
        gamma: γ = (1 − β)·α_image + β·α_text of each setting, [n].
        values: The metric at each setting, 0…1, [n].
        metric: Its name.
        split: The split on which it was measured.
        points: Settings to mark: label → (β, γ), such as the base at (1, 1).

    Raises:
        InputError: Arrays of different lengths, or no grid: it takes two β or more, with several γ.
    """

    beta: NDArray[np.floating]
    gamma: NDArray[np.floating]
    values: NDArray[np.floating]
    metric: str
    split: str
    points: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the shapes."""
        sizes = [np.shape(item) for item in (self.beta, self.gamma, self.values)]
        if len(set(sizes)) != 1 or len(sizes[0]) != 1:
            raise InputError(f"A heat map takes β, γ and values of one length, not the shapes {sizes}.")
        if len(np.unique(self.beta)) < 2 or len(np.unique(self.gamma)) < 2:
            raise InputError("A heat map takes a grid of several β and γ; here one of them never changes.")

    @classmethod
    def from_record(cls, record: CellRecord, marked: Mapping[str, CellRecord]) -> "HeatMap":
        """The sweep that chose a cell's PDV setting, with the base and the settings of other cells marked.

        Args:
            record: Of a cell whose PDV was chosen; it holds the sweep's arrays.
            marked: Label → a cell whose PDV setting is marked; one that sets α_image for each query is not.

        Raises:
            InputError: The cell holds no sweep.
        """
        outcome = record.outcome
        if "sweep/values" not in outcome.arrays:
            raise InputError(
                f"Row {record.row} of table {record.table} holds no sweep; its PDV was not chosen."
            )
        beta, gamma, values = (outcome.arrays[f"sweep/{name}"] for name in ("beta", "gamma", "values"))
        chosen = {label: _knobs(other.outcome.pdv) for label, other in marked.items()}
        points = {label: place for label, place in chosen.items() if place is not None}
        metric, split = str(outcome.facts["metric"]), " ".join(outcome.facts["selected_on"])
        return cls(beta, gamma, values, metric, split, {"base": (1.0, 1.0), **points})

    def nearest(self, beta: float, gamma: float) -> float:
        """The metric at the setting nearest to (β, γ), 0…1."""
        return float(self.values[np.argmin((self.beta - beta) ** 2 + (self.gamma - gamma) ** 2)])


def _knobs(pdv: Settings | None) -> tuple[float, float] | None:
    """β and γ = (1 − β)·α_image + β·α_text of a setting; None without one for all queries."""
    if pdv is None or isinstance(pdv["alpha_image"], str):
        return None
    beta = float(pdv["beta"])
    return beta, (1 - beta) * pdv["alpha_image"] + beta * pdv["alpha_text"]


def draw_curve(title: str, curve: Curve) -> Picture:
    """A training curve; steps without a finite value are left out."""
    found = np.array([pair for pair in curve if np.isfinite(pair[1])], dtype=float).reshape(-1, 2)
    with _canvas(4.4, 2.6) as (figure, axes):
        axes.plot(*found.T, color=_ACCENT, marker="o" if len(found) < 3 else "", markersize=4)
        axes.set_xlabel("step")
        axes.grid(axis="y", color=_INK, alpha=0.12, linewidth=0.6)
        axes.margins(x=0.02)
        axes.ticklabel_format(axis="y", scilimits=(-3, 4))
        return _picture(figure, title, (_ends(found),))


def _ends(curve: NDArray[np.float64]) -> str:
    if not len(curve):
        return "no finite value was logged"
    (first, start), (last, end) = curve[0], curve[-1]
    return f"{start:.4g} at step {first:.0f}, {end:.4g} at step {last:.0f}"


def draw_overview(table: Table) -> Picture | None:
    """The headline metric of every row that has been run, with its interval; None when there is none."""
    metric = table.spec.metrics[0]
    found = [(row.spec.title, row.estimates.get(metric)) for row in table.rows]
    rows = [(label, item) for label, item in found if item is not None]
    if not rows:
        return None
    # Beside labels of some 30 letters the axis keeps half of the picture; longer ones make it wider.
    longest = max(len(label) for label, _ in rows)
    with _canvas(max(5.6, 2.8 + 0.085 * longest), 0.5 + 0.32 * len(rows)) as (figure, axes):
        _draw_intervals(axes, rows)
        details = (f"{label} {item.value:.2f} [{item.low:.2f}, {item.high:.2f}]" for label, item in rows)
        return _picture(figure, f"{metric} × 100, with 95 % intervals", tuple(details))


def _draw_intervals(axes: "Axes", rows: Sequence[tuple[str, Estimate]]) -> None:
    for place, (_, item) in enumerate(rows):
        axes.plot([item.low, item.high], [place, place], color=_ACCENT, alpha=0.45, linewidth=5)
        axes.plot(item.value, place, "o", color=_ACCENT, markersize=7)
        axes.annotate(
            f"{item.value:.1f}", (item.high, place), (8, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1.1 * max(item.high for _, item in rows) or 1)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=_INK, alpha=0.12, linewidth=0.6)
    axes.spines["left"].set_visible(False)


@dataclass(frozen=True)
class DrawnMap:
    """A heat map that is drawn, on which one more setting is marked without drawing it again.

    Attributes:
        picture: The heat map.
        heat_map: What it shows.
        frame: Left, top, width and height of the axes in the SVG's units.
        beta: Ends of the axis of β.
        gamma: Ends of the axis of γ.
    """

    picture: Picture
    heat_map: HeatMap
    frame: tuple[float, float, float, float]
    beta: tuple[float, float]
    gamma: tuple[float, float]

    def locate(self, beta: float, gamma: float) -> tuple[float, float]:
        """Where a setting lies in the SVG's units, x and y; one outside of the axes lies on their edge."""
        left, top, width, height = self.frame
        across = (beta - self.beta[0]) / (self.beta[1] - self.beta[0])
        up = (gamma - self.gamma[0]) / (self.gamma[1] - self.gamma[0])
        return left + width * min(max(across, 0), 1), top + height * (1 - min(max(up, 0), 1))

    def mark(self, label: str, beta: float, gamma: float) -> Picture:
        """The heat map with a setting marked by a ring, and its value among the details."""
        x, y = self.locate(beta, gamma)
        ring = Markup('<circle cx="{0:.2f}" cy="{1:.2f}" r="6" fill="none" stroke="{2}" stroke-width="{3}"/>')
        rings = ring.format(x, y, "black", 4) + ring.format(x, y, "white", 2)
        body, end = self.picture.svg.rsplit("</svg>", 1)
        detail = _detail(self.heat_map, label, (beta, gamma))
        return Picture(
            self.picture.title, Markup(body) + rings + Markup("</svg>" + end), (*self.picture.details, detail)
        )


def draw_heat_map(heat_map: HeatMap) -> Picture:
    """The metric over (β, γ), with the marked settings and the line γ = β of plain fusion."""
    return prepare_heat_map(heat_map).picture


def prepare_heat_map(heat_map: HeatMap) -> DrawnMap:
    """`draw_heat_map`'s picture, ready for further marks."""
    title = f"{heat_map.metric} × 100 on {heat_map.split} over β and γ"
    with _canvas(5.6, 4.2) as (figure, axes):
        _draw_surface(figure, axes, heat_map)
        _draw_settings(axes, heat_map)
        axes.set(xlabel="β (share of the text side)", ylabel="γ (step along the edit)")
        axes.margins(0)
        figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=10, handletextpad=0.4)
        picture = _picture(figure, title, _describe(heat_map))
        # The layout is settled by now. An SVG has 72 units an inch, and its y goes down.
        width, height = (float(inches) * 72 for inches in figure.get_size_inches())
        box = axes.get_position()
        frame = (width * box.x0, height * (1 - box.y1), width * box.width, height * box.height)
        return DrawnMap(picture, heat_map, frame, axes.get_xlim(), axes.get_ylim())


def _draw_surface(figure: "Figure", axes: "Axes", heat_map: HeatMap) -> None:
    beta, gamma, values = _mesh(heat_map)
    colours = axes.pcolormesh(beta, gamma, values, shading="gouraud", cmap="viridis", rasterized=True)
    bar = figure.colorbar(colours, ax=axes, pad=0.02)
    bar.outline.set_visible(False)
    if bar.solids is not None:
        bar.solids.set_rasterized(True)


def _mesh(heat_map: HeatMap) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """β, γ and points as a mesh [levels, columns]: the settings stand in columns, one a β.

    A column's γ are its own, as many and as far apart as both α make them, so each is interpolated.
    """
    columns, owner = np.unique(np.round(heat_map.beta, 6), return_inverse=True)
    levels = np.linspace(0, 1, _LEVELS)
    gamma, values = np.empty((2, _LEVELS, len(columns)))
    for column in range(len(columns)):
        inside = owner == column
        known, first = np.unique(heat_map.gamma[inside], return_index=True)
        gamma[:, column] = known[0] + levels * (known[-1] - known[0])
        values[:, column] = np.interp(gamma[:, column], known, POINTS * heat_map.values[inside][first])
    return np.broadcast_to(columns, gamma.shape), gamma, values


def _draw_settings(axes: "Axes", heat_map: HeatMap) -> None:
    low = max(heat_map.beta.min(), heat_map.gamma.min())
    high = min(heat_map.beta.max(), heat_map.gamma.max())
    axes.plot([low, high], [low, high], "--", color="white", linewidth=1.2)
    axes.plot([], [], "--", color=_INK, linewidth=1.2, label="plain fusion (γ = β)")
    style: dict[str, Any] = {"color": "white", "markeredgecolor": "black", "markersize": 11, "clip_on": False}
    for marker, (label, place) in zip(cycle(_MARKERS), heat_map.points.items(), strict=False):
        axes.plot(*place, marker, label=label, zorder=5, **style)


def _describe(heat_map: HeatMap) -> tuple[str, ...]:
    best = int(np.argmax(heat_map.values))
    places = {"highest": (heat_map.beta[best], heat_map.gamma[best]), **heat_map.points}
    return tuple(_detail(heat_map, label, place) for label, place in places.items())


def _detail(heat_map: HeatMap, label: str, place: tuple[float, float]) -> str:
    beta, gamma = place
    return f"{label}: {POINTS * heat_map.nearest(beta, gamma):.2f} at β {beta:.2f}, γ {gamma:.2f}"


@contextmanager
def _canvas(width: float, height: float) -> Iterator["tuple[Figure, Axes]"]:
    """A figure of that size in inches; without pyplot, whose global state a library leaves alone."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots()


def _picture(figure: "Figure", title: str, details: tuple[str, ...]) -> Picture:
    import matplotlib

    buffer = BytesIO()
    # Each figure salts its ids by its title: two pictures on one page must not share a clip path.
    salt = sha256(title.encode()).hexdigest()
    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": salt}):
        figure.savefig(
            buffer, format="svg", transparent=True, dpi=150, metadata={"Date": None, "Creator": None}
        )
    svg = buffer.getvalue().decode()
    for stand_in, colour in _PAGE_COLOURS.items():
        svg = svg.replace(stand_in, colour)
    # The prologue and the metadata name addresses; an inline picture needs neither.
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    labelled = f'<svg role="img" aria-label="{escape("; ".join((title, *details)))}" '
    return Picture(title, Markup(svg.replace("<svg ", labelled, 1)), details)
