"""A benchmark with a backbone's vectors of everything in it that has to be encoded once.

The gallery is embedded once per backbone, preprocessing and benchmark, in a store that every row, seed and sweep of
a table shares.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mmret.backbones.base import Backbone
from mmret.composition import QueryBatch
from mmret.composition.scores import Region
from mmret.data.benchmark import Benchmark
from mmret.data.images import ImageSource
from mmret.data.regions import RegionImages
from mmret.embedding import embed_documents, embed_images, embed_texts, open_store
from mmret.errors import InputError
from mmret.retrieval.index import Index
from mmret.retrieval.maxsim import MultiVectorIndex
from mmret.retrieval.multi_vectors import ManyVectors

Vectors = NDArray[np.float32]
Embed = Callable[[ImageSource, Sequence[str]], Vectors]
"""What makes un-normalised vectors [n, D] of images that are not the benchmark's own."""


@dataclass(frozen=True, eq=False)
class EncodedBenchmark:
    """A benchmark with the backbone's vectors of its images.

    Attributes:
        benchmark: The benchmark.
        vectors: float32 [M, D], **un-normalised**, one row for each of `benchmark.image_ids`.
        text_vectors: Likewise for the gallery's texts, in the gallery's order, where texts are searched.
        multi_vectors: The images' vectors where the backbone gives several each; `vectors` has no rows then.
        embed: The backbone that made them, for methods that look at parts of images; None where it is not at hand.
    """

    benchmark: Benchmark
    vectors: Vectors
    text_vectors: Vectors | None = None
    embed: Embed | None = None
    multi_vectors: ManyVectors | None = None

    @cached_property
    def rows(self) -> dict[str, int]:
        """Image id → row of `vectors`; copies of an image in a gallery share its row."""
        rows = {name: row for row, name in enumerate(self.benchmark.image_ids)}
        copies = self.benchmark.copies.items()
        return rows | {copy: rows[original] for copy, original in copies if original in rows}

    @cached_property
    def index(self) -> Index:
        """The gallery, exact, by cosine similarity; raises `InputError` where a document has several vectors."""
        gallery = self.benchmark.gallery
        if self.text_vectors is not None:
            return Index(gallery, self.text_vectors)
        return Index(gallery, self._of([self.rows[name] for name in gallery]))

    @cached_property
    def searched(self) -> Index | MultiVectorIndex:
        """What a search takes: the gallery by cosine similarity, or by MaxSim where a document has several vectors."""
        if self.multi_vectors is None or self.text_vectors is not None:
            return self.index
        gallery = self.benchmark.gallery
        rows = np.array([self.rows[name] for name in gallery], dtype=np.int64)
        whole = np.array_equal(rows, np.arange(len(self.multi_vectors)))
        return MultiVectorIndex(gallery, self.multi_vectors if whole else self.multi_vectors.take(rows))

    def _of(self, rows: Sequence[int]) -> Vectors:
        """The one vector of each of these images."""
        if self.multi_vectors is not None and len(rows):
            raise InputError(
                f"The backbone gives each image of {self.benchmark.name} several vectors, where one is needed: search "
                "by text-only, or choose another pooling."
            )
        return self.vectors[list(rows)]

    @cached_property
    def query_ids(self) -> tuple[str, ...]:
        """The ids of all queries, in order."""
        return tuple(query.id for query in self.benchmark.queries)

    def encode_regions(self, regions: Sequence[Region]) -> Vectors:
        """Un-normalised features float32 [R, D] of parts of images; a whole image is not encoded again."""
        copies = self.benchmark.copies
        named = {
            f"{row}": (copies.get(region.image, region.image), region.boxes)
            for row, region in enumerate(regions)
            if region.boxes
        }
        if named and self.embed is None:
            raise InputError(
                "Parts of images are to be encoded, and this evaluation has no backbone at hand."
            )
        vectors = np.empty((len(regions), self.vectors.shape[1]), np.float32)
        whole = [row for row, region in enumerate(regions) if not region.boxes]
        vectors[whole] = self._of([self.rows[regions[row].image] for row in whole])
        if named and self.embed is not None:
            vectors[list(map(int, named))] = self.embed(
                RegionImages(self.benchmark.images, named), list(named)
            )
        return vectors

    def batch(self, positions: Sequence[int]) -> QueryBatch:
        """The queries at these positions with the features of their reference images, as composers take them.

        A text query has no reference: "" stands for its id and NaN for its features, which `compose` lets pass only
        where they are not used.
        """
        queries = [self.benchmark.queries[position] for position in positions]
        features = np.full((len(queries), self.vectors.shape[1]), np.nan, dtype=np.float32)
        for row, query in enumerate(queries):
            if query.reference is not None:
                features[row] = self._of([self.rows[query.reference]])[0]
        return QueryBatch(
            ids=tuple(query.id for query in queries),
            references=tuple(query.reference or "" for query in queries),
            texts=tuple(self.benchmark.alternatives(query) for query in queries),
            reference_image=torch.from_numpy(features),
        )


def encode_benchmark(
    backbone: Backbone, benchmark: Benchmark, stores: Path | None = None, *, texts: Backbone | None = None
) -> EncodedBenchmark:
    """Embed the gallery and the reference images; with a folder of `stores`, what lies there is not encoded again.

    A gallery of texts is never stored; `texts` encodes it (by default the backbone, else its tuned text encoder).
    """
    store = None
    if stores is not None:
        told = json.dumps(backbone.fingerprint(), sort_keys=True)
        mark = hashlib.sha256(told.encode()).hexdigest()[:12]
        name = f"{benchmark.name}-{benchmark.version}-{benchmark.split}-{backbone.spec.preprocess}-{mark}"
        store = open_store(stores / name.replace("/", "-"), backbone)
    embed = partial(embed_images, backbone)
    found = embed_documents(backbone, benchmark.images, benchmark.image_ids, store=store)
    if not isinstance(found, np.ndarray):
        none = np.empty((0, backbone.spec.width), np.float32)
        return EncodedBenchmark(benchmark, none, embed=embed, multi_vectors=found)
    vectors = found
    if not benchmark.texts:
        return EncodedBenchmark(benchmark, vectors, embed=embed)
    captions = [benchmark.texts[name] for name in benchmark.gallery]
    found = embed_texts(texts or backbone, captions, progress=True)
    return EncodedBenchmark(benchmark, vectors, found, embed)
