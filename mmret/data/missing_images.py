"""Images that annotations name and the disk does not have: named, counted, and refused unless that is allowed."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from mmret.data.benchmark import Query
from mmret.data.images import ImageSource
from mmret.errors import InputError, InputWarning

_NAMED_AT_MOST = 5


def find_unreadable(images: ImageSource, ids: Iterable[str], *, decode: bool = True) -> dict[str, str]:
    """Image id → why it cannot be used: "missing", or the message of the error met when decoding it."""
    ids, known = list(ids), set(images.ids)
    bad = {image: "missing" for image in ids if image not in known}
    if not decode:
        return bad
    present = [image for image in ids if image in known]
    with ThreadPoolExecutor() as pool:
        errors = tqdm(
            pool.map(lambda image: _read_error(images, image), present),
            desc="checking images",
            total=len(present),
            delay=2,
            disable=None,
        )
        bad.update({image: error for image, error in zip(present, errors, strict=True) if error})
    return bad


def _read_error(images: ImageSource, image: str) -> str:
    try:
        images.read(image)
    except InputError as error:
        return f"broken: {error}"
    return ""


def name_images(bad: Mapping[str, str]) -> str:
    """The first few images with the reason of each, and how many more there are."""
    named = "; ".join(f"{image} ({why})" for image, why in list(bad.items())[:_NAMED_AT_MOST])
    return named + (f"; and {len(bad) - _NAMED_AT_MOST:,} more" if len(bad) > _NAMED_AT_MOST else "")


def without_images(
    gallery: Sequence[str],
    queries: Sequence[Query],
    bad: Mapping[str, str],
    place: Path,
    allow_missing: bool,
) -> tuple[tuple[str, ...], tuple[Query, ...]]:
    """Gallery and queries without the images that cannot be used, with a warning that counts both.

    A query goes when its reference or all of its targets do; a pool loses the images it cannot show.

    Raises:
        InputError: This was not allowed.
    """
    count = f"{len(bad):,} images in {place} are missing or broken"
    if not allow_missing:
        raise InputError(
            f"{count}: {name_images(bad)}; mend them, or go on with a smaller gallery by allow_missing=True "
            "(--allow-missing)."
        )
    kept_images = tuple(image for image in gallery if image not in bad)
    kept_queries = tuple(
        _without_images(query, bad)
        for query in queries
        if query.reference not in bad and (not query.targets or query.targets.keys() - bad.keys())
    )
    warnings.warn(
        f"{count}: {name_images(bad)}; the gallery has {len(kept_images):,} of {len(gallery):,} images, "
        f"{len(kept_queries):,} of {len(queries):,} queries remain.",
        InputWarning,
        stacklevel=3,
    )
    return kept_images, kept_queries


def _without_images(query: Query, bad: Mapping[str, str]) -> Query:
    targets = {image: grade for image, grade in query.targets.items() if image not in bad}
    return replace(query, targets=targets, subset=tuple(image for image in query.subset if image not in bad))
