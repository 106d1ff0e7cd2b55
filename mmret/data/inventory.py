"""What of a published benchmark is on disk: files, counts and images, compared with a whole copy."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmret.data.missing_images import name_images
from mmret.data.published import TRIMMED, Release
from mmret.errors import InputError


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for, and whether it is as it should be."""

    what: str
    good: bool

    def __str__(self) -> str:
        return f"{'ok' if self.good else 'NO':<3} {self.what}"


def take_inventory(release: Release, split: str, root: Path) -> Iterator[Finding]:
    """Look for everything that a split needs: annotation files, counts, unknown ids, images.

    Unlike loading it does not stop at the first thing that is wrong.
    """
    for path in release.files(root, split):
        there = path.is_file()
        yield Finding(f"annotations {path}{'' if there else ' (missing)'}", there)
    if (root / TRIMMED).is_file():
        yield Finding(f"a part of the whole, as {root / TRIMMED} says: counts are not compared", True)
    try:
        found = release.annotations(root, split)
    except InputError as error:
        yield Finding(str(error), False)
        return
    wrong = release.differing_counts(root, split, found)
    yield from (Finding(phrase, False) for phrase in wrong)
    if not wrong:
        yield Finding(", ".join(f"{number:,} {what}" for what, number in found.counts.items()), True)
    gallery = set(found.gallery)
    outside = [name for query in found.queries for name in query.targets if gallery and name not in gallery]
    if outside:
        yield Finding(f"{len(outside):,} targets outside the gallery, such as {outside[0]}", False)
    ids = found.images.ids
    missing = found.images.missing(ids)
    named = f": {name_images({name: found.images.place(name) for name in missing})}" if missing else ""
    yield Finding(f"{len(ids) - len(missing):,} of {len(ids):,} images{named}", not missing)
