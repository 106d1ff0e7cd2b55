"""The published benchmarks by name, and where their data is looked for."""

import os
from pathlib import Path
from typing import Final

from mmret.data.caption_retrieval import CAPTION_RETRIEVAL
from mmret.data.circo import CIRCO
from mmret.data.cirr import CIRR
from mmret.data.fashioniq import FASHIONIQ
from mmret.data.genecis import GENECIS
from mmret.data.page_labels import CONTOSO, MANUALS
from mmret.data.published import Release, first_folder
from mmret.data.vidore import SLIDEVQA, VIDORE
from mmret.data.wiki_ss import WIKI_SS
from mmret.errors import InputError

RELEASES: Final[dict[str, Release]] = {
    release.name: release
    for release in (
        *(CIRR, CIRCO, *FASHIONIQ, *GENECIS, *CAPTION_RETRIEVAL),
        *(*WIKI_SS, *SLIDEVQA, *VIDORE, *CONTOSO, *MANUALS),
    )
}

DATA_VARIABLE: Final = "MMRET_DATA"
"""The environment variable that names the folder of all data; `data` where it is not set."""


def data_folder(folder: str) -> Path:
    """Where a benchmark's folder lies when no root is given."""
    return Path(os.environ.get(DATA_VARIABLE) or "data") / folder


def release_folder(release: Release) -> Path:
    """Where a published benchmark lies when no root is given: the first of its folders that is there."""
    return first_folder(*map(data_folder, (release.folder, *release.other_folders)))


def releases(name: str) -> list[Release]:
    """The benchmark of that name, or the whole family that it begins ("fashioniq", "genecis", "vidore-v1").

    Raises:
        InputError: There is neither.
    """
    found = [release for key, release in RELEASES.items() if key == name or key.startswith(f"{name}-")]
    if not found:
        raise InputError(f"There is no published benchmark {name!r}; there are {', '.join(RELEASES)}.")
    return found
