"""What results look like: galleries of rankings, for notebooks and pages; every text is escaped."""

import base64
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from PIL import Image

from mmret.atomic import atomic_write
from mmret.errors import InputError
from mmret.templates import render_template

if TYPE_CHECKING:
    from mmret.data.benchmark import Benchmark, Query
    from mmret.data.images import ImageSource
    from mmret.retrieval.run import Run

Scored = Sequence[tuple[str, float]]
"""Document ids with their scores, best first."""

Order = Literal["spread", "gains", "losses"]

THUMBNAIL_SIDE: Final = 128
"""Pixels of a thumbnail's longer side: sharp at the 64–100 px at which pages show it."""

PAGE_SIDE: Final = 480
"""The same of a page of a document: its headings can be read."""


def thumbnail(image: Image.Image, side: int = THUMBNAIL_SIDE) -> str:
    """A small JPEG of an image as a data URI; never larger than the image, transparency on white."""
    small = image.copy()
    small.thumbnail((side, side))
    if small.mode in {"RGBA", "LA", "P", "PA"}:
        small = small.convert("RGBA")
        small = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small)
    buffer = BytesIO()
    small.convert("RGB").save(buffer, "JPEG", quality=85, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@dataclass(frozen=True)
class Hit:
    """One ranked image: its id, score, thumbnail (a data URI), whether it is relevant, and what stands below it."""

    id: str
    score: float
    picture: str
    relevant: bool
    caption: str = ""


@dataclass(frozen=True)
class Ranking:
    """The top of one method's ranking, with a line about where its first relevant image stands."""

    label: str
    about: str
    hits: tuple[Hit, ...]


@dataclass(frozen=True)
class Example:
    """A query with its rankings; `reference` is a data URI, or "" for a text query."""

    query_id: str
    reference: str
    text: str
    rankings: tuple[Ranking, ...]


@dataclass(frozen=True)
class Gallery:
    """Queries with the top of their rankings, as a line, in a notebook, or as a page of its own.

    `layout` is "images", or "pages" of documents: larger, and in their own proportions.
    """

    title: str
    examples: tuple[Example, ...]
    layout: Literal["images", "pages"] = "images"

    def __repr__(self) -> str:
        """One line: the title and how many queries."""
        return f"Gallery({self.title!r}: {len(self.examples)} queries)"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return render_template("gallery.html", gallery=self)

    def save(self, path: str | Path) -> None:
        """Write a self-contained HTML page, whole or not at all."""
        page = render_template("gallery_page.html", gallery=self, title=self.title)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(Path(path)) as handle:
            handle.write(page.encode())


def make_example(
    images: "ImageSource",
    rankings: Mapping[str, Scored],
    *,
    query_id: str,
    text: str = "",
    reference: Image.Image | str | None = None,
    relevant: Collection[str] | None = None,
    depth: int = 5,
    side: int = THUMBNAIL_SIDE,
    caption: Callable[[str], str] | None = None,
) -> Example:
    """A query's rankings with their pictures.

    Args:
        images: Reads the ranked images, and the reference if that is an id.
        rankings: Label → the whole ranking; the first `depth` are shown.
        query_id: Name of the query.
        text: Its words.
        reference: Its image, or the id of that; None for a text query.
        relevant: Ids to outline; None where the ground truth is not known.
        depth: Images shown of each ranking.
        side: Pixels of the longer side of their thumbnails.
        caption: What stands below an image, by its id; None for nothing but its rank.
    """
    picture = images.read(reference) if isinstance(reference, str) else reference
    return Example(
        query_id=query_id,
        reference="" if picture is None else thumbnail(picture),
        text=text,
        rankings=tuple(
            _ranking(label, _hits(images, ranking[:depth], relevant, side, caption), ranking, relevant)
            for label, ranking in rankings.items()
        ),
    )


def _hits(
    images: "ImageSource",
    shown: Scored,
    relevant: Collection[str] | None,
    side: int,
    caption: Callable[[str], str] | None,
) -> tuple[Hit, ...]:
    return tuple(
        Hit(
            id=name,
            score=score,
            picture=thumbnail(images.read(name), side),
            relevant=name in (relevant or ()),
            caption=caption(name) if caption else "",
        )
        for name, score in shown
    )


def _ranking(label: str, hits: tuple[Hit, ...], ranking: Scored, relevant: Collection[str] | None) -> Ranking:
    if relevant is None:
        return Ranking(label, "", hits)
    rank = _first_relevant(ranking, relevant)
    about = f"first hit at rank {rank}" if rank else f"no hit in the top {len(ranking)}"
    return Ranking(label, about, hits)


def _first_relevant(ranking: Scored, relevant: Collection[str]) -> int | None:
    """The rank (from 1) of the first relevant document, or None."""
    return next((rank for rank, (name, _) in enumerate(ranking, start=1) if name in relevant), None)


def show_run(
    run: "Run",
    benchmark: "Benchmark",
    *,
    label: str = "run",
    beside: Mapping[str, "Run"] | None = None,
    query_ids: Sequence[str] | None = None,
    order: Order = "spread",
    count: int = 4,
    depth: int = 5,
    title: str | None = None,
) -> Gallery:
    """A gallery of a run's queries: reference, caption, top images with the relevant ones outlined.

    Args:
        run: The run.
        benchmark: Its benchmark.
        label: Its name.
        beside: Other runs by name, shown before it.
        query_ids: The queries to show; if None, `count` of them are taken by `order`.
        order: "spread": evenly over the benchmark; "gains" and "losses": where the run's reciprocal rank
            differs most from that of the first run in `beside`, for better or worse.
        count: Queries taken by `order`.
        depth: Images shown of each ranking.
        title: Of the gallery; says the benchmark and the order by default.

    Raises:
        InputError: A query that the benchmark or a run does not have, or "gains" with nothing beside.
    """
    runs = {**(beside or {}), label: run}
    queries = {query.id: query for query in benchmark.queries}
    chosen = list(query_ids) if query_ids is not None else _choose(runs, queries, order, count)
    unknown = [name for name in chosen if name not in queries]
    if unknown:
        raise InputError(f"Benchmark {benchmark.name} {benchmark.split} has no query {unknown[0]!r}.")
    examples = tuple(_query_example(queries[name], runs, benchmark, depth) for name in chosen)
    return Gallery(title or f"{benchmark.name} {benchmark.split}: {label} ({order})", examples)


def _query_example(query: "Query", runs: Mapping[str, "Run"], benchmark: "Benchmark", depth: int) -> Example:
    return make_example(
        benchmark.images,
        {label: run.ranking(query.id) for label, run in runs.items()},
        query_id=query.id,
        text=" · ".join(query.texts),
        reference=query.reference,
        # No targets: the ground truth is not public.
        relevant=query.targets or None,
        depth=depth,
    )


def _choose(runs: Mapping[str, "Run"], queries: Mapping[str, "Query"], order: Order, count: int) -> list[str]:
    listed = list(runs.values())
    other, run = listed[0], listed[-1]
    names = [name for name in run.query_ids if name in queries]
    if order == "spread":
        places = np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int)
        return [names[place] for place in places]
    if len(runs) < 2:
        raise InputError(f"The order {order!r} compares two runs; name another one in `beside`.")
    sign = 1 if order == "gains" else -1
    gains = {
        name: sign * (_reciprocal_rank(run, queries[name]) - _reciprocal_rank(other, queries[name]))
        for name in names
    }
    best = sorted(names, key=gains.__getitem__, reverse=True)[:count]
    return [name for name in best if gains[name] > 0]


def _reciprocal_rank(run: "Run", query: "Query") -> float:
    rank = _first_relevant(run.ranking(query.id), query.targets)
    return 0.0 if rank is None else 1 / rank
