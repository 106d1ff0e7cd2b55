"""The vectors of a folder's images or pages, kept beside it: brought up to date each time it is opened."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from mmret.backbones.base import Backbone
from mmret.data.images import ImageSource
from mmret.embedding import embed_missing, open_store
from mmret.retrieval.store import EmbeddingStore


@dataclass(frozen=True)
class FolderChanges:
    """How many images or pages were embedded anew or forgotten when a folder was opened."""

    added: int = 0
    changed: int = 0
    deleted: int = 0
    unreadable: int = 0

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} {name}" for name, count in vars(self).items() if count)
        return counts or "nothing new"


@dataclass(frozen=True)
class Update:
    """What `update_store` came to.

    Attributes:
        ids: Those whose vectors are in the store as they should be, in the source's order.
        failures: Why the others could not be read, by id.
        changes: The same as counts.
    """

    ids: tuple[str, ...]
    failures: dict[str, str]
    changes: FolderChanges


def update_store(
    backbone: Backbone,
    images: ImageSource,
    store: EmbeddingStore,
    *,
    progress: bool = True,
    forget: bool = True,
) -> Update:
    """Embed what is new or changed and forget what is gone; a killed run goes on where it stopped.

    Args:
        backbone: Made the store's vectors.
        images: The images or pages that are there now.
        store: Where their vectors are kept.
        progress: Show a progress bar.
        forget: Whether ids that the source does not have are gone, and not merely unasked for.
    """
    ids, held = list(images.ids), set(store.ids)
    deleted = held - set(ids) if forget else set()
    store.remove(deleted)
    embedded = embed_missing(backbone, images, ids, store, progress=progress)
    changed = len(held.intersection(embedded.new))
    changes = FolderChanges(
        len(embedded.new) - changed, changed, len(deleted), unreadable=len(embedded.failures)
    )
    usable = tuple(name for name in ids if name not in embedded.failures)
    return Update(usable, embedded.failures, changes)


def open_folder_store(root: Path, backbone: Backbone, store: str | Path | None = None) -> EmbeddingStore:
    """Open the store of a backbone's vectors of a folder, below `store` or where `folder_place` says."""
    place = Path(store) if store is not None else folder_place(root)
    return open_store(place / _store_name(backbone), backbone)


def folder_place(root: Path) -> Path:
    """Where what is kept of a folder lies: below `root/.mmret`, or in the user's cache if that cannot be written."""
    if os.access(root, os.W_OK):
        return root / ".mmret"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "mmret" / "folders" / hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]


def _store_name(backbone: Backbone) -> str:
    """A name a backbone's vectors do not share with others': a readable part and a digest."""
    digest = hashlib.sha256(json.dumps(backbone.fingerprint(), sort_keys=True).encode()).hexdigest()
    readable = "".join(sign if sign.isalnum() else "-" for sign in Path(backbone.spec.name).name)
    return f"{readable}-{digest[:10]}"
