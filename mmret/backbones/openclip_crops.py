"""CLIP and its kin on pages in crops: each crop through the image tower, one vector of all, or one of each."""

import torch
from torch import Tensor
from torch.nn import functional

from mmret.backbones.base import Features, PatchFeatures, TokenVectors, single
from mmret.backbones.crops import Crops, CropTransform, parse_crops, patches_of_views
from mmret.backbones.openclip import OpenClipBackbone
from mmret.backbones.preprocess import Pixels, build_transform
from mmret.backbones.spec import BackboneSpec


class CroppedBackbone(OpenClipBackbone):
    """A two-tower model that looks at V views of an image: crops and the whole (`crops.py`).

    Pixels are [B, V, 3, H, W]. The vector of an image is the mean of its views' un-normalised vectors; or each view
    keeps its own (`spec.multi_vector`), and a query has its one.
    """

    def __init__(self, spec: BackboneSpec, model: object, precision: str = "fp32") -> None:
        super().__init__(spec, model, precision)
        self.crops = _crops_of(spec)
        self.images_at_once = max(1, self.images_at_once // self.crops.views)

    @classmethod
    def transform_of(cls, spec: BackboneSpec) -> CropTransform:
        """Return what makes V squares of an image."""
        square = build_transform("squash", spec.image_size, spec.mean, spec.std, spec.interpolation)
        return CropTransform(_crops_of(spec), square)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Return float32 [B, D], un-normalised, of normalised pixels [B, V, 3, H, W]."""
        return single(self._pooled(self._views(pixels)), self.spec.name)

    def encode_documents(self, pixels: Pixels) -> Features:
        """Return float32 [B, D], un-normalised, or `TokenVectors` of V each, of uint8 [B, V, 3, H, W]."""
        stacked = pixels if isinstance(pixels, Tensor) else torch.stack(list(pixels))
        normalised = self.transform.normalise(stacked.to(self.device, non_blocking=True))
        assert isinstance(normalised, Tensor)
        return self._pooled(self._views(normalised))

    def encode_queries(self, tokens: Tensor) -> Features:
        """Return float32 [B, D], un-normalised, or as `TokenVectors` of one each, of token ids int64 [B, L]."""
        vectors = self.encode_text(tokens)
        return self._pooled(vectors[:, None]) if self.spec.multi_vector else vectors

    def encode_patches(self, pixels: Tensor) -> PatchFeatures:
        """Return what the features of one image are made of, uint8 [V, 3, H, W].

        Of one vector, the patches of all views together; of a vector for each view, the tiles.
        """
        normalised = self.transform.normalise(pixels.to(self.device))
        assert isinstance(normalised, Tensor)
        if self.spec.multi_vector:
            whole = self._pooled(self._views(normalised[None]))
            assert isinstance(whole, TokenVectors)
            tiles = whole.vectors[:-1].view(self.crops.rows, self.crops.columns, -1)
            return PatchFeatures(tiles, whole, exact=True)
        views = [self.patches_of_square(view[None]) for view in normalised]
        vectors = patches_of_views(torch.stack([view.vectors for view in views]), self.crops)
        return PatchFeatures(vectors, self.encode_images(normalised[None]), all(view.exact for view in views))

    def _views(self, pixels: Tensor) -> Tensor:
        """The vector of each view, [B, V, D]."""
        return super().encode_images(pixels.flatten(0, 1)).view(*pixels.shape[:2], -1)

    def _pooled(self, views: Tensor) -> Features:
        if not self.spec.multi_vector:
            return views.mean(dim=1)
        lengths = torch.full((len(views),), views.shape[1], device=views.device)
        return TokenVectors(functional.normalize(views.flatten(0, 1), dim=-1), lengths)


def _crops_of(spec: BackboneSpec) -> Crops:
    crops = parse_crops(spec.preprocess)
    assert crops is not None, "this loader's specs have crops for their preprocessing"
    return crops
