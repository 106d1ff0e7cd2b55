"""Images and texts → vectors, in bounded memory, into a store that survives a kill."""

import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from mmret.backbones.base import Backbone, Features, TokenVectors
from mmret.data.images import ImageSource
from mmret.errors import InputError, InputWarning
from mmret.pixel_batches import PixelBatch, pixel_batches
from mmret.retrieval.multi_vectors import ManyVectors, MultiVectors
from mmret.retrieval.store import EmbeddingStore

Vectors = NDArray[np.float32]

_FLUSH_ROWS = 8192
_FLUSH_BYTES = 2**28
_FLUSH_SECONDS = 30.0
_NAMED = 10  # so many broken images are named, the rest counted


def embed_images(
    backbone: Backbone,
    images: ImageSource,
    ids: Sequence[str] | None = None,
    *,
    store: EmbeddingStore | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    progress: bool = True,
    on_error: Literal["raise", "skip"] = "raise",
) -> Vectors:
    """Return the un-normalised features float32 [N, D] of images, in the order of `ids` (by default: all).

    With a `store`, only what it lacks, or holds under another stamp, is encoded; vectors are written at least
    twice a minute, and a killed run resumes from there. Without one they stay in memory. `batch_size` is the
    backbone's own by default (`images_at_once`). `workers` processes
    read ahead; with 0, threads of this process read a batch between two batches of the model (by default so on
    a CPU, while a GPU gets one process a core).

    Images that cannot be read never stop the others. When everything else is encoded and stored they are
    counted and the first ten named: in an `InputError`, or, with `on_error="skip"`, in a warning. Their rows
    are then NaN, which no index accepts, so that a smaller gallery is always somebody's decision.
    """
    if backbone.spec.multi_vector:
        raise InputError(
            f"{backbone.spec.name} gives every token of an image a vector of its own, where one an image is needed: "
            "choose another pooling."
        )
    wanted = list(images.ids if ids is None else ids)
    target: _Target = _Memory(backbone.spec.width) if store is None else store
    failures = _embed(backbone, images, wanted, target, store, batch_size, workers, progress).failures
    report_failures(failures, len(wanted), on_error)
    return _rows(target, wanted, failures, backbone.spec.width)


def embed_documents(
    backbone: Backbone,
    images: ImageSource,
    ids: Sequence[str] | None = None,
    *,
    store: EmbeddingStore | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Vectors | ManyVectors:
    """Return what a backbone gives for images: as `embed_images`, or several L2-normalised vectors an image.

    Several vectors come from a store as they lie there, memory-mapped; without one they are in memory.
    """
    if not backbone.spec.multi_vector:
        return embed_images(
            backbone, images, ids, store=store, batch_size=batch_size, workers=workers, progress=progress
        )
    wanted = list(images.ids if ids is None else ids)
    target: _Target = _Memory(backbone.spec.width) if store is None else store
    failures = _embed(backbone, images, wanted, target, store, batch_size, workers, progress).failures
    report_failures(failures, len(wanted), "raise")
    return target.multi_vectors(wanted)


def embed_missing(
    backbone: Backbone,
    images: ImageSource,
    ids: Sequence[str],
    store: EmbeddingStore,
    *,
    progress: bool = True,
) -> "Embedded":
    """Encode into a store what it lacks, or holds under another stamp, whatever the pooling; see `embed_images`.

    What the store held of images that cannot be read stays there.
    """
    return _embed(backbone, images, ids, store, store, None, None, progress)


class Embedded(NamedTuple):
    """The ids that were encoded just now, and why others could not be read, by id."""

    new: list[str]
    failures: dict[str, str]


def _embed(
    backbone: Backbone,
    images: ImageSource,
    wanted: Sequence[str],
    target: "_Target",
    store: EmbeddingStore | None,
    batch_size: int | None,
    workers: int | None,
    progress: bool,
) -> Embedded:
    """Encode what the target lacks."""
    todo, failures = _outstanding(images, list(dict.fromkeys(wanted)), store)
    loader = pixel_batches(backbone, images, list(todo), batch_size, workers)
    with _Writer(target, todo) as writer, _bar(len(todo), backbone, progress) as bar:
        for batch in _encoded(backbone, loader):
            writer.write(batch.ids, batch.vectors)
            failures |= batch.failures
            bar.update(len(batch.ids) + len(batch.failures))
    return Embedded([id for id in todo if id not in failures], failures)


def embed_texts(
    backbone: Backbone, texts: Sequence[str], *, batch_size: int = 256, progress: bool = False
) -> Vectors:
    """Return the un-normalised features float32 [N, D] of texts. Over-long ones are cut, with one warning.

    Raises `InputError` for a backbone that gives several vectors a text.
    """
    if backbone.spec.multi_vector:
        raise InputError(f"{backbone.spec.name} gives every token a vector, where one a text is needed.")
    tokens = backbone.tokenize(texts)
    vectors = np.empty((len(texts), backbone.spec.width), dtype=np.float32)
    with _bar(len(texts), backbone, progress, unit="text") as bar, torch.no_grad():
        for start in range(0, len(texts), batch_size):
            rows = slice(start, start + batch_size)
            vectors[rows] = backbone.encode_text(tokens[rows]).cpu().numpy()
            bar.update(len(tokens[rows]))
    return vectors


@torch.no_grad()
def embed_queries(backbone: Backbone, texts: Sequence[str]) -> Vectors | MultiVectors:
    """Return a few queries' vectors, un-normalised [N, D] or several L2-normalised a query, as a search takes them."""
    return as_arrays(backbone.encode_queries(backbone.tokenize(texts)))


def open_store(path: str | Path, backbone: Backbone) -> EmbeddingStore:
    """Create or resume a store for the vectors of `backbone`; raises `InputError` if it holds another's.

    Several vectors an image are kept in half precision: a page of a thousand takes a quarter of a megabyte so.
    """
    dtype = "float16" if backbone.spec.multi_vector else "float32"
    return EmbeddingStore.open(path, backbone.fingerprint(), width=backbone.spec.width, dtype=dtype)


class _Target(Protocol):
    """Where vectors go: an `EmbeddingStore`, or memory."""

    def remove(self, ids: Iterable[str]) -> None: ...

    def append(
        self, ids: Iterable[str], vectors: Vectors | MultiVectors, stamps: Sequence[str] | None = None
    ) -> None: ...

    def vectors(self, ids: Iterable[str]) -> Vectors: ...

    def multi_vectors(self, ids: Iterable[str]) -> ManyVectors: ...


class _Memory:
    """A store that is not on disk."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._held: dict[str, Vectors] = {}

    def remove(self, ids: Iterable[str]) -> None:
        """Nothing is ever held twice here."""

    def append(
        self, ids: Iterable[str], vectors: Vectors | MultiVectors, stamps: Sequence[str] | None = None
    ) -> None:
        rows = vectors
        if isinstance(vectors, MultiVectors):
            rows = [vectors.take([row]).vectors for row in range(len(vectors))]  # type: ignore[assignment]
        self._held.update(zip(ids, rows, strict=True))  # type: ignore[arg-type]

    def vectors(self, ids: Iterable[str]) -> Vectors:
        rows = [self._held[id] for id in ids]
        return np.stack(rows) if rows else np.empty((0, self._width), dtype=np.float32)

    def multi_vectors(self, ids: Iterable[str]) -> MultiVectors:
        rows = [self._held[id] for id in ids]
        flat = np.concatenate(rows) if rows else np.empty((0, self._width), dtype=np.float32)
        return MultiVectors.of_lengths(flat, [len(row) for row in rows])


class _Writer:
    """Gathers vectors into shards of a decent size, and writes what it has whatever ends the work."""

    def __init__(self, target: _Target, stamps: Mapping[str, str]) -> None:
        self._target = target
        self._stamps = stamps
        self._ids: list[str] = []
        self._vectors: list[Vectors | MultiVectors] = []
        self._bytes = 0
        self._flushed = time.monotonic()

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def write(self, ids: Sequence[str], vectors: Vectors | MultiVectors) -> None:
        self._ids += ids
        self._vectors.append(vectors)
        self._bytes += (vectors.vectors if isinstance(vectors, MultiVectors) else vectors).nbytes
        full = len(self._ids) >= _FLUSH_ROWS or self._bytes >= _FLUSH_BYTES
        if full or time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        ids, vectors = self._ids, self._vectors
        self._ids, self._vectors, self._bytes = [], [], 0
        if ids:
            self._target.remove(ids)  # a changed image's old vector stays until the new one is here
            self._target.append(ids, _joined(vectors), [self._stamps[id] for id in ids])
        self._flushed = time.monotonic()


def _joined(parts: Sequence[Vectors | MultiVectors]) -> Vectors | MultiVectors:
    ragged = [part for part in parts if isinstance(part, MultiVectors) and len(part)]
    if ragged:
        return MultiVectors.concatenated(ragged)
    return np.concatenate([part for part in parts if isinstance(part, np.ndarray)])


def as_arrays(features: Features) -> Vectors | MultiVectors:
    """A backbone's features as numpy has them."""
    held = features.cpu()
    if isinstance(held, TokenVectors):
        return MultiVectors.of_lengths(held.vectors.numpy(), held.lengths.numpy())
    found: Vectors = held.numpy()
    return found


class _EncodedBatch(NamedTuple):
    ids: list[str]
    vectors: Vectors | MultiVectors
    failures: dict[str, str]


@torch.no_grad()
def _encoded(backbone: Backbone, batches: Iterable[PixelBatch]) -> Iterator[_EncodedBatch]:
    """Encode batch after batch; a GPU gets the next batch before the features of the last are waited for."""
    waiting: tuple[PixelBatch, Features] | None = None
    for batch in batches:
        features: Features = torch.empty(0, backbone.spec.width)
        if batch.pixels is not None:
            features = backbone.encode_documents(batch.pixels)
        if waiting is not None:
            yield _fetched(*waiting)
        waiting = batch, features
    if waiting is not None:
        yield _fetched(*waiting)


def _fetched(batch: PixelBatch, features: Features) -> _EncodedBatch:
    return _EncodedBatch(batch.ids, as_arrays(features), batch.failures)


def _outstanding(
    images: ImageSource, ids: Sequence[str], store: EmbeddingStore | None
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the stamps of the images that need encoding, and why others cannot be found at all."""
    if store is None:
        return dict.fromkeys(ids, ""), {}
    stamps: dict[str, str] = {}
    failures: dict[str, str] = {}
    for id in ids:
        try:
            stamps[id] = images.stamp(id)
        except InputError as error:
            failures[id] = str(error)
    missing = store.missing(list(stamps), list(stamps.values()))
    return {id: stamps[id] for id in missing}, failures


def report_failures(
    failures: Mapping[str, str],
    count: int,
    on_error: Literal["raise", "skip"],
    fate: str = "Their vectors are NaN.",
) -> None:
    """Count the broken images and name the first ten, as an error, or as a warning that says what became of them."""
    if not failures:
        return
    named = " ".join(why for why in list(failures.values())[:_NAMED])
    more = f" … and {len(failures) - _NAMED} more." if len(failures) > _NAMED else ""
    message = f"{len(failures)} of {count} images cannot be used: {named}{more}"
    if on_error == "raise":
        raise InputError(f"{message} Mend or remove them, or ask for them to be skipped.")
    warnings.warn(f"{message} {fate}", InputWarning, stacklevel=3)


def _rows(target: _Target, ids: Sequence[str], failures: Mapping[str, str], width: int) -> Vectors:
    """Return one row per id, NaN where the image could not be read."""
    if not failures:
        return target.vectors(ids)
    rows = np.full((len(ids), width), np.nan, dtype=np.float32)
    good = np.array([id not in failures for id in ids], dtype=bool)
    rows[good] = target.vectors([id for id in ids if id not in failures])
    return rows


def _bar(count: int, backbone: Backbone, progress: bool, unit: str = "image") -> "tqdm[NoReturn]":
    """A progress bar on a terminal; none in a file or where nobody wants one."""
    return tqdm(total=count, desc=backbone.spec.name, unit=unit, disable=None if progress else True)
