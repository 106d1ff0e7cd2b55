"""Search a folder of one's own photos by words, by an image, or by an image and what should be different.

    folder = mmret.open_folder("photos/", backbone="clip-vit-b-32")
    folder.search(text="at night", image="ref.jpg")

The folder is embedded once; opening it again notices added, changed and deleted files.
"""

from pathlib import Path
from typing import Final

import torch
from PIL import Image

from mmret.backbones import load_backbone
from mmret.backbones.base import Backbone
from mmret.backbones.text_tower import load_text_encoder
from mmret.composition import (
    PDV,
    ComposedFeatures,
    ImageOnly,
    PseudoWord,
    QueryBatch,
    Sum,
    TextOnly,
)
from mmret.composition.late_interaction import MultiVectorQueries
from mmret.data.images import FolderImages, read_image
from mmret.embedding import report_failures
from mmret.errors import InputError
from mmret.folder_vectors import FolderChanges, open_folder_store, update_store
from mmret.retrieval.index import Index
from mmret.retrieval.search import search
from mmret.retrieval.store import EmbeddingStore
from mmret.search_result import SearchResult

DEFAULT_BACKBONE: Final = "miniature-clip"
_QUERY: Final = "query"


class SearchableFolder:
    """The images under a folder with their vectors; make one with `open_folder`.

    Attributes:
        images: The image files.
        changes: What `refresh` found the last time.
        texts: What encodes the texts of queries: the backbone, or a tuned text encoder of it.
    """

    def __init__(
        self,
        root: Path,
        backbone: Backbone,
        store: EmbeddingStore,
        progress: bool = True,
        texts: Backbone | None = None,
    ) -> None:
        self.root, self.backbone, self.store, self.progress = root, backbone, store, progress
        self.texts = texts or backbone
        self.refresh()

    def __repr__(self) -> str:
        return f"SearchableFolder({self.root}: {len(self.index):,} images, {self.backbone.spec.name})"

    def refresh(self) -> FolderChanges:
        """Embed what is new or changed, forget what is gone; broken images are warned of and left out."""
        self.images = FolderImages(self.root)
        update = update_store(self.backbone, self.images, self.store, progress=self.progress)
        report_failures(update.failures, len(self.images.ids), "skip", "They are left out.")
        if not update.ids:
            raise InputError(f"None of the {len(self.images.ids):,} images under {self.root} can be read.")
        self.index = Index(update.ids, self.store.vectors(update.ids))
        self.changes = update.changes
        return self.changes

    def search(
        self,
        text: str = "",
        image: str | Path | Image.Image | None = None,
        *,
        k: int = 10,
        phi: str | Path | None = None,
        pdv: PDV | None = None,
    ) -> SearchResult:
        """Rank the folder's images by cosine similarity.

        Text and image together are summed, each normalised (Pic2Word's "sum"); with a φ the image becomes a
        word of the text instead, and PDV may act on the result.

        Args:
            text: What the image should show, or how it should differ from `image`.
            image: A file or an image. A file of this folder is not returned as its own result.
            k: How many images to return, at most.
            phi: File of a φ network trained for this backbone (`mmret fit` with LinCIR writes one).
            pdv: PDV's knobs; needs `phi`.

        Raises:
            InputError: Neither text nor image, an image that cannot be read, or settings that do not fit.
        """
        composer = composer_of(bool(text.strip()), image is not None, phi, pdv)
        picture = image if image is None or isinstance(image, Image.Image) else read_image(image)
        features = composer(self.texts, self._query(text, picture))
        assert not isinstance(features, MultiVectorQueries), (
            "the folder was embedded with one vector an image"
        )
        vector = _vector(features, pdv)
        own = None if picture is image else self._own_id(Path(str(image)))
        run = search(
            self.index, [_QUERY], vector.float().cpu().numpy(), k, exclude={_QUERY: [own]} if own else None
        )
        return SearchResult(self.images, text, picture, tuple(run.ranking(_QUERY)))

    @torch.no_grad()
    def _query(self, text: str, picture: Image.Image | None) -> QueryBatch:
        features = torch.zeros(1, self.backbone.spec.width)  # not looked at by TextOnly
        if picture is not None:
            pixels = self.backbone.transform(picture.convert("RGB"))[None]
            features = self.backbone.encode_images(pixels.to(self.backbone.device))
        return QueryBatch((_QUERY,), (_QUERY,), ((text,),) if text.strip() else ((),), features)

    def _own_id(self, path: Path) -> str | None:
        """The id of a file that lies in this folder."""
        path, root = path.resolve(), self.root.resolve()
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else None


def open_folder(
    root: str | Path,
    backbone: str = DEFAULT_BACKBONE,
    *,
    store: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
    text_encoder: str | Path | None = None,
) -> SearchableFolder:
    """Embed a folder of images, or what is new in it, and make it searchable.

    Args:
        root: The folder; images lie at any depth.
        backbone: Name of the backbone. The default ships with the package and knows drawn shapes only; for
            photos name a pretrained one, such as `clip-vit-b-32`.
        store: Where vectors are kept; by default below `root/.mmret`, or in the user's cache where that
            cannot be written. Each backbone has its own.
        device: "cpu", "cuda", or "auto" for a GPU when there is one.
        progress: Show a progress bar.
        text_encoder: File of a text encoder tuned for this backbone (`mmret fit` with RTD writes one), for the texts
            of queries. The images' vectors stay the backbone's.

    Raises:
        InputError: No such folder, no image in it, an unknown backbone, one of several vectors an image, or
            a text encoder of another one.
    """
    root = Path(root)
    FolderImages(root)  # A wrong path is told before weights are loaded.
    model = load_backbone(backbone, device=device)
    if model.spec.multi_vector:
        raise InputError(
            f"{backbone} gives every token of an image a vector, and photos are searched with one: open the folder as "
            "documents (mmret.open_documents, mmret search --kind documents), or choose another pooling."
        )
    texts = load_text_encoder(model, text_encoder) if text_encoder is not None else None
    return SearchableFolder(root, model, open_folder_store(root, model, store), progress, texts)


def composer_of(
    has_text: bool, has_image: bool, phi: str | Path | None, pdv: PDV | None
) -> ImageOnly | TextOnly | Sum | PseudoWord:
    """The composer of a query; raises `InputError` for what cannot be asked together."""
    if not has_text and not has_image:
        raise InputError("There is nothing to search for; give a text, an image or both.")
    if phi is not None and not (has_text and has_image):
        raise InputError("φ makes a word of an image for a text; give both a text and an image.")
    if pdv is not None and phi is None:
        raise InputError("PDV acts on a pseudo-word; give the φ that makes it, or leave PDV out.")
    if phi is not None:
        return PseudoWord(phi)
    if has_text and has_image:
        return Sum()
    return TextOnly() if has_text else ImageOnly()


def _vector(features: ComposedFeatures | torch.Tensor, pdv: PDV | None) -> torch.Tensor:
    if pdv is not None:
        return pdv(features)
    return features.composed_text if isinstance(features, ComposedFeatures) else features
