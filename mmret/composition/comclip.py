"""ComCLIP: an image's subject, object and predicate, cut out and weighed into its vector (arXiv 2211.13854).

For a text with the roles k (words t_k) and an image whose parts are v_k:

    v = v_img + Σ_k w_k·v_k,   w_k = ⟨t_k, v_k⟩ / Σ_j ⟨t_j, v_j⟩,   score = cos(text, v).

The features are un-normalised, as in the official code. A part is the whole image, black outside the role's box. A
role without a box is the whole image; a predicate without one is the union of subject and object. The paper detects
boxes with GRiT, parses and matches words with a language model, and ranks CLIP's top ten anew; here boxes are given
in a file, words may be (a rule-based parser finds them otherwise), and every document is scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mmret.composition.encoding import TextBackbone, average_raw, encode_texts
from mmret.composition.features import QueryBatch, captions_of, l2_normalise
from mmret.composition.image_parts import ROLES, ImageParts
from mmret.composition.scores import Doubles, Gallery, Integers, ScoreBlock, Surroundings
from mmret.triples import parse_triples

NO_WEIGHT = 1e-12
"""Weights whose sum is smaller than this have no direction: the parts are then left out."""


@dataclass(frozen=True, eq=False)
class ComCLIPQueries:
    """Texts with their roles, before the gallery's parts are encoded.

    Attributes:
        sentence: [B, D], L2-normalised.
        words: [B, K, D], un-normalised, the words of the K roles; rows of absent roles are zero.
        parts: Where the roles lie in the images.
    """

    sentence: Tensor
    words: Tensor
    parts: ImageParts

    def __len__(self) -> int:
        return len(self.sentence)

    def settle(self, surroundings: Surroundings) -> ComCLIPScores:
        """Encode every part of the gallery's images, once each."""
        gallery = surroundings.index.ids
        regions, places = self.parts.lay_out(gallery, surroundings.query_ids)
        features = surroundings.encode_regions(regions)
        own = (self.sentence.double().cpu().numpy(), self.words.double().cpu().numpy())
        return ComCLIPScores(*own, features, places)


@dataclass(frozen=True, eq=False)
class ComCLIPScores:
    """Texts that score images with parts.

    Attributes:
        sentence: Float64 [B, D].
        words: Float64 [B, K, D].
        features: Float32 [R, D], un-normalised: of whole images and parts.
        places: What says where among `features` an image and its parts stand, see `Places`.
    """

    sentence: Doubles
    words: Doubles
    features: Any
    places: Any

    def __len__(self) -> int:
        return len(self.sentence)

    def scores(self, gallery: Gallery) -> ScoreBlock:
        """Cosines of the texts with images plus weighted parts, query by query."""

        def block(queries: Integers, rows: Integers) -> Doubles:
            return np.stack([self._score(int(query), rows) for query in queries])

        return block

    def _score(self, query: int, rows: Integers) -> Doubles:
        """One query's scores [n]."""
        parts = np.asarray(self.features[self.places.parts(query, rows)], np.float64)  # [n, K, D]
        image = np.asarray(self.features[self.places.whole(rows)], np.float64)
        vectors = image + np.einsum("nk,nkd->nd", role_weights(self.words[query], parts), parts)
        scores: Doubles = vectors @ self.sentence[query] / np.linalg.norm(vectors, axis=1)
        return scores


def role_weights(words: Doubles, parts: Doubles) -> Doubles:
    """W [n, K] of words [K, D] and parts [n, K, D]; an absent role's word is zero, and so is its weight."""
    products = np.einsum("kd,nkd->nk", words, parts)
    total = products.sum(axis=1, keepdims=True)
    weights: Doubles = np.divide(
        products, total, out=np.zeros_like(products), where=np.abs(total) > NO_WEIGHT
    )
    return weights


class ComCLIP:
    """ComCLIP's score of the query's text and every image of the gallery.

    Args:
        parts: Path of a JSON file with the boxes of the images, and the words of the queries if it has them, or
            its content; see `ImageParts`.

    Raises:
        InputError: if the file cannot be read or a record is malformed.
    """

    name: ClassVar[str] = "comclip"
    takes_pdv: ClassVar[bool] = False

    def __init__(self, parts: str | Path | Sequence[Mapping[str, Any]]) -> None:
        self.parts = ImageParts.load(parts)

    @torch.no_grad()
    def __call__(self, backbone: TextBackbone, batch: QueryBatch) -> ComCLIPQueries:
        """The texts' features; roles that the file does not name come from the first triple of the first text.

        Raises:
            InputError: if a query has no text.
        """
        sentence = l2_normalise(average_raw(encode_texts(backbone, captions_of(batch))))
        roles = [
            self.parts.words(name) or _parsed(texts[0])
            for name, texts in zip(batch.ids, batch.texts, strict=True)
        ]
        return ComCLIPQueries(sentence, self._encode(backbone, roles, sentence), self.parts)

    def _encode(self, backbone: TextBackbone, roles: Sequence[Mapping[str, str]], like: Tensor) -> Tensor:
        """The words of all roles [B, K, D], zero where a query lacks one."""
        words = like.new_zeros(len(roles), len(ROLES), like.shape[1])
        places = [(row, ROLES.index(role)) for row, named in enumerate(roles) for role in named]
        if places:
            texts = [[text] for named in roles for text in named.values()]
            words[tuple(zip(*places, strict=True))] = torch.cat(encode_texts(backbone, texts))
        return words

    def describe(self) -> dict[str, Any]:
        """Name, the parts' file name and a digest of their content."""
        return {"name": self.name, "parts": self.parts.where, "sha256": self.parts.digest()}


def _parsed(text: str) -> dict[str, str]:
    """The words of the first triple of a text, with the attributes of subject and object."""
    triples = parse_triples(text)
    if not triples:
        return {}
    first = triples[0]
    return dict(zip(ROLES, (str(first.subject), str(first.object), first.predicate), strict=True))
