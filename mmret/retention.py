"""What the top of a ranking keeps of the reference and has of the edit, attribute by attribute, in the miniature world.

A composed query asks for two things at once: change this, keep the rest. A method's mean says how often both came
together; this says which of the two failed. A scene's attribute values are those of all its groups and its
background; *changed* are the target's that the reference lacks, *kept* the target's that the reference has.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mmret.data.miniature import MiniatureImages, SceneQuery
from mmret.data.miniature.scene import ATTRIBUTES, Scene
from mmret.errors import InputError
from mmret.retrieval.run import Run

CHANGED = "changed"
_VALUES = {
    pair: column for column, pair in enumerate((n, v) for n, known in ATTRIBUTES.items() for v in known)
}
_NAMES = np.array([name for name, _ in _VALUES])

Flags = NDArray[np.float32]


def retention(
    run: Run, queries: Sequence[SceneQuery], images: MiniatureImages, depth: int = 10
) -> dict[str, float]:
    """The share, 0…1, of the wanted values that each of the first `depth` documents shows, averaged.

    Args:
        run: Over images of the miniature world.
        queries: That the run answers, with their scenes.
        images: Whose scenes are known.
        depth: Documents of a query that are looked at.

    Returns:
        `changed`, and the name of each attribute for its values that the edit left alone. A query without values of
        a kind (nothing is new where a thing is removed) does not count for it.

    Raises:
        InputError: The run lacks a query, is less deep, or ranks other images.
    """
    rows = _rows(run, queries, depth)
    shown = _flags(_scene(images, name) for name in run.document_ids)
    return _shares(queries, shown[run.indices[rows, :depth]].mean(axis=1))


def chance(queries: Sequence[SceneQuery], images: MiniatureImages) -> dict[str, float]:
    """The same shares for documents drawn at random from all images."""
    shown = _flags(drawing.scene for drawing in images.drawings.values()).mean(axis=0)
    return _shares(queries, np.broadcast_to(shown, (len(queries), len(shown))))


def _shares(queries: Sequence[SceneQuery], shown: NDArray[np.floating]) -> dict[str, float]:
    """Mean over queries of how much of the wanted values is shown; `shown` [Q, A] is in 0…1."""
    before, after = _flags(q.scene for q in queries), _flags(q.edit.target for q in queries)
    kept = after * before
    wanted: Mapping[str, Flags] = {CHANGED: after * (1 - before)} | {
        name: kept * (name == _NAMES) for name in ATTRIBUTES
    }
    return {name: _share(values, shown) for name, values in wanted.items()}


def _share(wanted: Flags, shown: NDArray[np.floating]) -> float:
    count = wanted.sum(axis=1)
    asked = count > 0
    return float(((wanted * shown).sum(axis=1)[asked] / count[asked]).mean()) if asked.any() else float("nan")


def _flags(scenes: Iterable[Scene]) -> Flags:
    """One row a scene, 1 where it has the value, float32 [n, A]."""
    rows = []
    for scene in scenes:
        row = np.zeros(len(_VALUES), np.float32)
        row[[_VALUES[pair] for pair in _pairs(scene)]] = 1
        rows.append(row)
    return np.stack(rows)


def _pairs(scene: Scene) -> set[tuple[str, str | int]]:
    groups = [name for name in ATTRIBUTES if name != "background"]
    return {(name, getattr(group, name)) for group in scene.groups for name in groups} | {
        ("background", scene.background)
    }


def _scene(images: MiniatureImages, name: str) -> Scene:
    if name not in images.drawings:
        raise InputError(f"The run ranks {name!r}, which is no image of this split of the miniature world.")
    return images.drawings[name].scene


def _rows(run: Run, queries: Sequence[SceneQuery], depth: int) -> list[int]:
    known = {name: row for row, name in enumerate(run.query_ids)}
    missing = [query.id for query in queries if query.id not in known]
    if missing:
        raise InputError(f"The run lacks {len(missing)} of {len(queries)} queries, {missing[0]} first.")
    if not 0 < depth <= run.indices.shape[1] or (run.indices[:, :depth] < 0).any():
        raise InputError(f"The run is {run.indices.shape[1]} deep, and depth is {depth}; take less.")
    return [known[query.id] for query in queries]
