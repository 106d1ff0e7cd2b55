"""Our encoders in MTEB's tasks, and our exact search as MTEB's (extra `mteb`).

    import mteb
    from mmret.mteb_adapter import MtebEncoder, MtebSearch

    task = mteb.get_task("VidoreDocVQARetrieval")
    mteb.evaluate(MtebEncoder.load("clip-vit-b-32"), task)              # MTEB searches
    mteb.evaluate(MtebSearch(MtebEncoder.load("clip-vit-b-32")), task)  # we do, ties by ascending id

MTEB's ranking metrics break ties of score by descending id, so that the two may differ where pages tie.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmret.backbones import load_backbone
from mmret.backbones.base import Backbone
from mmret.data.images import upright_rgb
from mmret.embedding import embed_images, embed_texts
from mmret.errors import InputError
from mmret.retrieval.index import Index
from mmret.retrieval.search import search

Vectors = NDArray[np.float32]
Batch = Mapping[str, Any]


class _Images:
    """The images of one batch; an `ImageSource` in memory."""

    def __init__(self, images: Sequence[Image.Image]) -> None:
        self._images = images

    @property
    def ids(self) -> Sequence[str]:
        return [f"{place}" for place in range(len(self._images))]

    def read(self, id: str) -> Image.Image:
        return upright_rgb(self._images[int(id)], f"{id} of the batch")

    def stamp(self, id: str) -> str:
        return ""


class MtebEncoder:
    """A backbone as MTEB's `EncoderProtocol`: texts are queries, images are documents (or queries).

    Inputs with both are the sum of the two vectors, as in MTEB's own CLIP.

    Args:
        backbone: Gives one vector an input.
        name: "organisation/model", under which MTEB keeps results; by default mmret and the backbone's name.

    Raises:
        InputError: The backbone gives several vectors an input.
    """

    def __init__(self, backbone: Backbone, name: str | None = None) -> None:
        if backbone.spec.multi_vector:
            raise InputError(
                f"{backbone.spec.name} gives several vectors an input, and MTEB's tasks take one here: choose another "
                "pooling or preprocessing, or evaluate it by a table of this package."
            )
        self.backbone = backbone
        self.name = name or f"mmret/{backbone.spec.name.strip('/').replace('/', '--')}"

    @classmethod
    def load(cls, name: str, **options: Any) -> Self:
        """With the backbone of that name; options as `mmret.backbones.load_backbone`'s."""
        return cls(load_backbone(name, **options))

    def encode(
        self,
        inputs: Iterable[Batch],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> Vectors:
        """Un-normalised vectors float32 [n, D] of MTEB's batches, dictionaries with `text`, `image` or both.

        The backbone's own prompts are taken; MTEB's batches say how many images are read at once.

        Raises:
            InputError: A batch with neither; images that cannot be used.
        """
        vectors = [self._encode(batch) for batch in inputs]
        return np.concatenate(vectors) if vectors else np.empty((0, self.backbone.spec.width), np.float32)

    def _encode(self, batch: Batch) -> Vectors:
        found: list[Vectors] = []
        if batch.get("image") is not None:
            found.append(embed_images(self.backbone, _Images(batch["image"]), progress=False))
        if batch.get("text") is not None:
            found.append(embed_texts(self.backbone, list(batch["text"])))
        if not found:
            raise InputError(f"A batch of MTEB holds {', '.join(batch)}; this encoder needs text or image.")
        total: Vectors = np.sum(found, axis=0, dtype=np.float32)
        return total

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosine similarities [n, m]."""
        from mteb.similarity_functions import cos_sim

        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosine similarities of rows with rows, [n]."""
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(embeddings1, embeddings2)

    @cached_property
    def mteb_model_meta(self) -> Any:
        """What MTEB keeps beside a result; the revision is that of the weights."""
        from mteb.models import ModelMeta

        make: Any = ModelMeta  # its validator takes names where its type says enumerations
        spec = self.backbone.spec
        unknown = (
            "release_date",
            "languages",
            "memory_usage_mb",
            "license",
            "open_weights",
            "use_instructions",
        )
        return make(
            loader=None,
            name=self.name,
            revision=spec.revision,
            n_parameters=sum(weight.numel() for weight in self.backbone.parameters()),
            max_tokens=spec.context_length or None,
            embed_dim=spec.width,
            framework=["PyTorch"],
            similarity_fn_name="cosine",
            modalities=["text", "image"] if self.backbone.has_text else ["image"],
            public_training_code=None,
            public_training_data=None,
            training_datasets=None,
            **dict.fromkeys(unknown),
        )


class MtebSearch:
    """Our index as MTEB's `SearchProtocol`, over any of its encoders.

    Args:
        encoder: An `EncoderProtocol`: ours, or one of MTEB's whose similarity is the cosine.
        index: Options of `mmret.retrieval.index.Index`, such as device="cuda".
    """

    def __init__(self, encoder: Any, **index: Any) -> None:
        self.encoder = encoder
        self._options = index
        self._index: Index | None = None

    @property
    def mteb_model_meta(self) -> Any:
        """The encoder's."""
        return self.encoder.mteb_model_meta

    def index(
        self,
        corpus: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        encode_kwargs: Mapping[str, Any],
        num_proc: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Encode a corpus (a data set with `id`) and index it, in place of the one before."""
        where = {"task_metadata": task_metadata, "hf_split": hf_split, "hf_subset": hf_subset}
        vectors = self._encode(corpus, "document", where, encode_kwargs, num_proc)
        self._index = Index(list(corpus["id"]), vectors, **self._options)

    def search(
        self,
        queries: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        top_k: int,
        encode_kwargs: Mapping[str, Any],
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        num_proc: int | None = None,
        **kwargs: Any,
    ) -> dict[str, dict[str, float]]:
        """Query id → document id → cosine similarity, of the best `top_k` (of `top_ranked`, where that is given).

        Raises:
            InputError: Nothing was indexed.
        """
        if self._index is None:
            raise InputError("This search has no corpus; call index first.")
        where = {"task_metadata": task_metadata, "hf_split": hf_split, "hf_subset": hf_subset}
        vectors = self._encode(queries, "query", where, encode_kwargs, num_proc)
        ids = list(queries["id"])
        pools = None if top_ranked is None else {id: top_ranked.get(id, ()) for id in ids}
        run = search(self._index, ids, vectors, min(top_k, len(self._index)), pools=pools)
        return {id: dict(run.ranking(id)) for id in ids}

    def _encode(
        self,
        rows: Any,
        role: str,
        where: Mapping[str, Any],
        encode_kwargs: Mapping[str, Any],
        num_proc: int | None,
    ) -> Vectors:
        """The vectors of a data set's rows, read as MTEB's own search reads them."""
        from mteb._create_dataloaders import create_dataloader
        from mteb.types import PromptType

        batches = create_dataloader(
            rows,
            task_metadata=where["task_metadata"],
            prompt_type=PromptType(role),
            batch_size=encode_kwargs.get("batch_size", 32),
            num_proc=num_proc,
        )
        vectors = self.encoder.encode(batches, prompt_type=PromptType(role), **where, **encode_kwargs)
        return np.asarray(vectors.cpu() if hasattr(vectors, "cpu") else vectors, dtype=np.float32)
