"""The ceiling of the emoji benchmark: retrieval by exact names, without looking at a picture."""

import re
from collections.abc import Mapping

import numpy as np

from mmret.data.benchmark import Benchmark, Query
from mmret.data.emoji_names import TONES, EmojiSequence
from mmret.errors import InputError
from mmret.retrieval.run import Run

# The longer names first: "medium-dark" is not "dark".
_TONE = "|".join(sorted(TONES.values(), key=len, reverse=True))
_OTHER_GENDER = {"woman": "man", "man": "woman"}


def exact_names(benchmark: Benchmark) -> dict[str, str]:
    """Image id → exact Unicode name, from the code points in the file names of Noto Emoji."""
    return {image: EmojiSequence.from_file_name(image).name for image in benchmark.image_ids}


def edited_name(name: str, edit: str) -> str:
    """The name with the edit applied: the tone, or else the gender, that the words of the edit ask for.

    >>> edited_name("runner, woman: dark skin tone", "use medium-light skin instead")
    'runner, woman: medium-light skin tone'

    Raises:
        InputError: The edit names neither.
    """
    tone = re.search(rf"\b({_TONE})\b", edit)
    if tone:
        return re.sub(rf"\b({_TONE}) skin tone", f"{tone[1]} skin tone", name)
    gender = re.search(r"\b(woman|man)\b", edit)
    if gender is None:
        raise InputError(f"The edit {edit!r} names neither a skin tone nor a gender.")
    parts, colon, tones = name.partition(":")
    swapped = (gender[1] if part == _OTHER_GENDER[gender[1]] else part for part in parts.split(", "))
    return ", ".join(swapped) + colon + tones


def name_lookup(benchmark: Benchmark, names: Mapping[str, str] | None = None, *, depth: int = 10) -> Run:
    """Rank first, and alone, the image whose exact name is the reference's name with the edit applied.

    Args:
        benchmark: A split of the emoji benchmark.
        names: Image id → exact name; by default `exact_names`.
        depth: Ranks of the run; all but the first are empty.

    Returns:
        A run with score 1 for the image found; a query whose name no image has gets an empty ranking.
    """
    names = exact_names(benchmark) if names is None else names
    places = {names[image]: place for place, image in enumerate(benchmark.gallery)}
    indices = np.full((len(benchmark.queries), depth), -1, dtype=np.int64)
    indices[:, 0] = [places.get(_wanted(query, names), -1) for query in benchmark.queries]
    scores = np.where(indices >= 0, np.float32(1), np.float32(-np.inf))
    return Run(tuple(query.id for query in benchmark.queries), benchmark.gallery, indices, scores)


def _wanted(query: Query, names: Mapping[str, str]) -> str:
    if query.reference is None:
        raise InputError(f"Query {query.id!r} has no reference, so there is no name to edit.")
    return edited_name(names[query.reference], query.texts[0])
