"""Which part of a page answered: the similarity of a query with each place of a page.

    found = similarity_map(backbone, "how is balance billing handled?", page)
    found.overlay()          # the page, warm where it answered

One vector a page (CLIP and its kin; `backbones/openclip_patches.py` says for which towers): the page's vector v is the
mean of what its patches bring, v = mean_p v_p, so that its cosine similarity with the query q divides exactly:

    q·v / (|q| |v|) = mean_p [ q·v_p / (|q| |v|) ]           values[p] = q·v_p / (|q| |v|)

A vision-language model's mean is also of tokens that lie nowhere on the page (the prompt's): `elsewhere` is what they
bring, and the mean of the values and `elsewhere` add up to the score.

Where a vector does not divide so (a class token, a language model's last token), values are the cosines of the
patches' own vectors with the query: the usual approximation, of which nothing says that it adds up to the score.

Several vectors a page (ColPali and its kin): values[p] = Σ_i q_i·v_p, the similarities of a patch with all tokens of
the query; `by_token` has them one by one. MaxSim counts of each token i only its best place: `chosen` is what it
counted, which with `elsewhere` (tokens of the prompt around the page) adds up to the score.
"""

from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mmret.backbones.base import Backbone, PatchFeatures, TokenVectors, single
from mmret.backbones.preprocess import Box
from mmret.embedding import embed_queries
from mmret.retrieval.multi_vectors import MultiVectors

Floats = NDArray[np.float32]

_WARM: Final = (255, 96, 0)
_STRONGEST: Final = 0.55  # of the colour's cover: the words below stay readable
_FLAT: Final = 1e-30  # a map that is the same everywhere covers nothing
_SHOWN: Final = 900  # pixels of the longer side in a notebook
_BLANK: Final = (448, 448)  # pixels that every model takes as they are: multiples of 14, 16, 28 and 32


@dataclass(frozen=True, eq=False, repr=False)
class SimilarityMap:
    """How much each place of a page answers a query.

    Attributes:
        page: The page, RGB.
        values: float32 [h, w], from the top left; see this module's head.
        region: What `values` lie over, in pixels of the page; it may reach beyond it, or be a part of it.
        score: The page's score: cosine similarity, or MaxSim.
        exact: Whether the score is what the map says: the mean of `values`, or the sum of `chosen`, plus `elsewhere`.
        by_token: float32 [T, h, w], a map for each token of the query, where each has a vector; None else.
        chosen: float32 [h, w], what MaxSim counted at each place; None where there is one vector a page.
        elsewhere: The part of the score that comes from tokens that lie nowhere on the page; 0 where it is not known.
        tokens: The T tokens of the query, as people read them.
    """

    page: Image.Image
    values: Floats
    region: Box
    score: float
    exact: bool
    by_token: Floats | None = None
    chosen: Floats | None = None
    elsewhere: float = 0.0
    tokens: tuple[str, ...] = ()

    def __repr__(self) -> str:
        height, width = self.values.shape
        return f"SimilarityMap({height} x {width}, score {self.score:.4f}, {'exact' if self.exact else 'approximate'})"

    def overlay(self, values: Floats | None = None) -> Image.Image:
        """The page with a warm cover over the places above the median, strongest at the greatest.

        Args:
            values: A map [h, w] to show in place of `values`: `by_token[3]`, or `chosen`.
        """
        return cover(self.page, self.values if values is None else values, self.region)

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        picture, buffer = self.overlay(), BytesIO()
        picture.thumbnail((_SHOWN, _SHOWN))
        picture.save(buffer, "PNG")
        return buffer.getvalue()


def similarity_map(backbone: Backbone, text: str, page: Image.Image) -> SimilarityMap:
    """Compare a query with every place of a page.

    Raises:
        InputError: the backbone does not say which part of a page a vector comes from; a page that it cannot take.
    """
    page = page.convert("RGB")
    patches = _patches(backbone, page)
    query = embed_queries(backbone, [text])
    region = backbone.transform.region(*page.size)
    if isinstance(query, MultiVectors):
        return _of_tokens(patches, query.vectors, page, region, tuple(backbone.query_tokens(text)))
    return _of_vector(patches, query[0], page, region)


def require_map(backbone: Backbone) -> None:
    """Raise `InputError` if a backbone does not say which part of a page answers; found out on one blank page."""
    _patches(backbone, Image.new("RGB", _BLANK, "white"))


def _patches(backbone: Backbone, page: Image.Image) -> PatchFeatures:
    with torch.no_grad():
        return backbone.encode_patches(backbone.transform.pixels(page))


def _of_vector(patches: PatchFeatures, query: Floats, page: Image.Image, region: Box) -> SimilarityMap:
    vectors, whole = _array(patches.vectors), _array(single(patches.whole, "the backbone"))[0]
    direction = query / np.linalg.norm(query)
    length = float(np.linalg.norm(whole))
    values: Floats = vectors @ direction
    values = values / length if patches.exact else values / np.sqrt(np.square(vectors).sum(axis=-1))
    elsewhere = 0.0 if patches.elsewhere is None else float(_array(patches.elsewhere) @ direction) / length
    score = float(whole @ direction) / length
    return SimilarityMap(page, values, region, score, patches.exact, elsewhere=elsewhere)


def _of_tokens(
    patches: PatchFeatures, query: Floats, page: Image.Image, region: Box, tokens: tuple[str, ...]
) -> SimilarityMap:
    assert isinstance(patches.whole, TokenVectors), "a query of several vectors asks pages of several"
    by_token = np.moveaxis(_array(patches.vectors) @ query.T, -1, 0)
    flat = by_token.reshape(len(query), -1)
    best = (query @ _array(patches.whole.vectors).T).max(axis=1)
    on_page = np.isclose(flat.max(axis=1), best, atol=1e-5)
    chosen = np.zeros(flat.shape[1], dtype=np.float32)
    np.add.at(chosen, flat.argmax(axis=1)[on_page], best[on_page])
    return SimilarityMap(
        page=page,
        values=by_token.sum(axis=0),
        region=region,
        score=float(best.sum()),
        exact=patches.exact,
        by_token=by_token,
        chosen=chosen.reshape(by_token.shape[1:]),
        elsewhere=float(best[~on_page].sum()),
        tokens=tokens,
    )


def _array(tensor: torch.Tensor) -> Floats:
    found: Floats = tensor.float().cpu().numpy()
    return found


def cover(page: Image.Image, values: Floats, region: Box) -> Image.Image:
    """An RGB page with a warm cover where a map [h, w] over a region of it is above its median."""
    low, high = float(np.median(values)), float(values.max())
    strength = np.clip((values - low) / max(high - low, _FLAT), 0, 1)
    left, top, right, bottom = (round(edge) for edge in region)
    size = max(1, right - left), max(1, bottom - top)
    heat = Image.fromarray((255 * _STRONGEST * strength).astype(np.uint8)).resize(
        size, Image.Resampling.BILINEAR
    )
    mask = Image.new("L", page.size)
    mask.paste(heat, (left, top))
    return Image.composite(Image.new("RGB", page.size, _WARM), page, mask)
