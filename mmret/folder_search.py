"""Search a folder of one's own photos by words, by an image, or by an image and what should be different.

    folder = mmret.open_folder("photos/", backbone="clip-vit-b-32")
    folder.search(text="at night", image="ref.jpg")

The folder is embedded once; opening it again notices added, changed and deleted files.
"""

import argparse
import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
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
from mmret.data.images import FolderImages, ImageSource, read_image
from mmret.display import Gallery, make_example
from mmret.embedding import embed_images, open_store
from mmret.errors import InputError
from mmret.retrieval.index import Index
from mmret.retrieval.search import search
from mmret.retrieval.store import EmbeddingStore

DEFAULT_BACKBONE: Final = "miniature-clip"
_QUERY: Final = "query"


@dataclass(frozen=True)
class FolderChanges:
    """How many images were embedded anew or forgotten when a folder was opened."""

    added: int
    changed: int
    deleted: int
    unreadable: int

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} {name}" for name, count in vars(self).items() if count)
        return counts or "nothing new"


@dataclass(frozen=True, repr=False)
class SearchResult:
    """The best images of a search: `hits` are (id, cosine similarity), best first."""

    images: ImageSource
    text: str
    image: Image.Image | None
    hits: tuple[tuple[str, float], ...]

    def __repr__(self) -> str:
        """One line: the best image and how many there are."""
        query = " + ".join(
            part for part in ("an image" if self.image else "", repr(self.text)) if part != "''"
        )
        best = ", ".join(f"{name} {score:.3f}" for name, score in self.hits[:1])
        return f"SearchResult({query}: {best}, {len(self.hits)} images)"

    @property
    def gallery(self) -> Gallery:
        """The query and its images, for a notebook or a page (`.save`)."""
        ranking = {"best first": self.hits}
        example = make_example(
            self.images,
            ranking,
            query_id=_QUERY,
            text=self.text,
            reference=self.image,
            depth=len(self.hits),
        )
        return Gallery("Search", (example,))

    def _repr_html_(self) -> str:
        return self.gallery._repr_html_()


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
        ids, held = list(self.images.ids), set(self.store.ids)
        outdated = self.store.missing(ids, [self.images.stamp(image) for image in ids])
        deleted = held - set(ids)
        self.store.remove(deleted)
        vectors = embed_images(
            self.backbone, self.images, ids, store=self.store, progress=self.progress, on_error="skip"
        )
        readable = np.flatnonzero(np.isfinite(vectors).all(axis=1)).tolist()
        broken = set(ids) - {ids[row] for row in readable}
        if not readable:
            raise InputError(f"None of the {len(ids):,} images under {self.root} can be read.")
        self.index = Index([ids[row] for row in readable], vectors[readable])
        self.changes = FolderChanges(
            added=sum(image not in held and image not in broken for image in outdated),
            changed=sum(image in held and image not in broken for image in outdated),
            deleted=len(deleted),
            unreadable=len(broken),
        )
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
        composer = _composer(bool(text.strip()), image is not None, phi, pdv)
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
        InputError: No such folder, no image in it, an unknown backbone, or a text encoder of another one.
    """
    root = Path(root)
    FolderImages(root)  # A wrong path is told before weights are loaded.
    model = load_backbone(backbone, device=device)
    texts = load_text_encoder(model, text_encoder) if text_encoder is not None else None
    place = Path(store) if store is not None else _default_store(root)
    return SearchableFolder(root, model, open_store(place / _store_name(model), model), progress, texts)


def _store_name(backbone: Backbone) -> str:
    """A name a backbone's vectors do not share with others': a readable part and a digest."""
    digest = hashlib.sha256(json.dumps(backbone.fingerprint(), sort_keys=True).encode()).hexdigest()
    readable = "".join(sign if sign.isalnum() else "-" for sign in Path(backbone.spec.name).name)
    return f"{readable}-{digest[:10]}"


def _default_store(root: Path) -> Path:
    if os.access(root, os.W_OK):
        return root / ".mmret"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "mmret" / "folders" / hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]


def _composer(
    has_text: bool, has_image: bool, phi: str | Path | None, pdv: PDV | None
) -> ImageOnly | TextOnly | Sum | PseudoWord:
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


def build_parser() -> argparse.ArgumentParser:
    """The options of `mmret search`."""
    parser = argparse.ArgumentParser(
        prog="mmret search", description="Search a folder of images by text, by image, or by both."
    )
    parser.add_argument("folder", help="folder of images, searched at any depth")
    parser.add_argument("--text", default="", help="what to find, or how it should differ from --image")
    parser.add_argument("--image", help="reference image")
    parser.add_argument("--backbone", help=f"name of a backbone (default {DEFAULT_BACKBONE})")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto (default)")
    parser.add_argument("-k", type=int, default=10, help="how many images to show (default 10)")
    parser.add_argument("--out", default="runs/search", help="folder of the gallery (default %(default)s)")
    parser.add_argument("--store", help="folder of the vectors (default FOLDER/.mmret)")
    parser.add_argument("--phi", help="file of a φ network: the image becomes a word of the text")
    parser.add_argument("--text-encoder", help="file of a tuned text encoder (RTD's), for the query's text")
    knobs = parser.add_argument_group("PDV, with --phi (giving any of them turns it on; others are 1)")
    knobs.add_argument("--alpha-text", type=float)
    knobs.add_argument("--alpha-image", help="a number or auto")
    knobs.add_argument("--beta", type=float)
    return parser


def _pdv(options: argparse.Namespace) -> PDV | None:
    knobs = {name: getattr(options, name) for name in ("alpha_text", "alpha_image", "beta")}
    given = {name: value for name, value in knobs.items() if value is not None}
    return PDV.from_spec(given) if given else None


def _say(text: str) -> None:
    print(f"mmret: {text}", file=sys.stderr)


def _open(options: argparse.Namespace) -> SearchableFolder:
    """The folder that the options name, with a line on what was found in it."""
    if options.backbone is None:
        _say(f"{DEFAULT_BACKBONE} knows drawn shapes only; for photos give --backbone clip-vit-b-32")
    backbone = options.backbone or DEFAULT_BACKBONE
    folder = open_folder(
        options.folder,
        backbone,
        store=options.store,
        device=options.device,
        text_encoder=options.text_encoder,
    )
    _say(f"{folder.root}: {len(folder.index):,} images ({folder.changes})")
    return folder


def main(argv: list[str]) -> int:
    """`mmret search FOLDER …`: print ranks and scores, and write a gallery."""
    options = build_parser().parse_args(argv)
    pdv = _pdv(options)
    # What can be told without the model is told before it is loaded.
    _composer(bool(options.text.strip()), options.image is not None, options.phi, pdv)
    result = _open(options).search(options.text, options.image, k=options.k, phi=options.phi, pdv=pdv)
    for rank, (name, score) in enumerate(result.hits, start=1):
        print(f"{rank:>3}  {score: .4f}  {name}")
    page = Path(options.out) / "gallery.html"
    result.gallery.save(page)
    _say(f"gallery written to {page}")
    return 0
