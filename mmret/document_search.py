"""Search a folder of documents: by the look of their pages, by their words, or by both.

    docs = mmret.open_documents("docs/", backbone="dse-qwen2-2b-mrl")
    docs.search("how is balance billing handled?", hybrid=True)

Pages are drawn when they are embedded and when they are shown; opening the folder again draws and embeds only pages of
documents that are new or changed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from mmret.backbones import load_backbone
from mmret.backbones.base import Backbone
from mmret.embedding import embed_queries
from mmret.errors import InputError, nearest
from mmret.folder_vectors import FolderChanges, folder_place, open_folder_store, update_store
from mmret.page_search_result import PageSearchResult
from mmret.page_words import PageWords
from mmret.pages.documents import MANIFEST, Passwords, list_documents, split_page_id
from mmret.pages.failures import Failure, PageError
from mmret.pages.settings import RenderSettings
from mmret.pages.sources import DocumentPages, RenderedPages
from mmret.retrieval.fusion import fuse_ranks, fuse_scores
from mmret.retrieval.index import Index
from mmret.retrieval.maxsim import MultiVectorIndex, search_multi_vectors
from mmret.retrieval.multi_vectors import MultiVectors
from mmret.retrieval.run import Run
from mmret.retrieval.search import search
from mmret.retrieval.store import EmbeddingStore
from mmret.similarity_maps import require_map

DEFAULT_BACKBONE: Final = "miniature-pages"
"""The page encoder that ships with the package; it knows generated pages only."""

Hybrid = bool | Literal["ranks", "weighted"]
"""How looks and words are joined: by reciprocal ranks (`True` too), by weighted scores, or (`False`) not at all."""

_QUERY: Final = "query"
_FUSED_DEPTH: Final = 1000
"""Pages that each half of a hybrid keeps: what one does not find, the other may."""


class SearchableDocuments:
    """The documents under a folder with the vectors of their pages; make one with `open_documents`.

    Attributes:
        pages: The pages, as images.
        backbone: Encodes pages and queries; None for a search of words alone.
        words: The words of the pages.
        changes: How many pages `refresh` embedded or forgot the last time.
    """

    def __init__(
        self,
        root: str | Path,
        backbone: Backbone | None,
        *,
        settings: RenderSettings | None = None,
        passwords: Passwords | None = None,
        store: str | Path | None = None,
        texts: str | Path | None = None,
        workers: int | None = 0,
        progress: bool = True,
    ) -> None:
        self.root, self.backbone, self.progress = Path(root), backbone, progress
        self._settings, self._passwords = settings, passwords or Passwords()
        folder = self.root if self.root.is_dir() else self.root.parent
        place = Path(store) if store is not None else folder_place(folder)
        self.words = PageWords(self.root, place, texts, self._passwords, workers)
        self._store = None if backbone is None else open_folder_store(folder, backbone, store)
        self.refresh()

    def __repr__(self) -> str:
        encoder = "words alone" if self.backbone is None else self.backbone.spec.name
        return f"SearchableDocuments({self.root}: {len(self.pages.ids):,} pages, {encoder})"

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Documents and pages that cannot be used, once each, as far as they were looked at."""
        found = [*getattr(self.pages, "failures", ()), *self._undrawn, *self.words.failures]
        return tuple({(failure.file, failure.page): failure for failure in reversed(found)}.values())[::-1]

    def refresh(self) -> FolderChanges:
        """Draw and embed what is new or changed, forget what is gone; see `failures` for what could not be drawn."""
        self.pages = self._open_pages()
        self.words.reset(self.pages.ids)
        self._undrawn: list[Failure] = []
        self.changes = FolderChanges()
        if self.backbone is not None and self._store is not None:
            self._index = self._embed(self.backbone, self._store)
        return self.changes

    def search(
        self,
        text: str,
        *,
        k: int = 10,
        hybrid: Hybrid = False,
        words_only: bool = False,
        within: str | None = None,
    ) -> PageSearchResult:
        """Rank the pages by cosine similarity (or MaxSim), by BM25 over their words, or by both.

        Args:
            text: The question.
            k: How many pages to return, at most; of words, only pages that hold one of the question's.
            hybrid: Join both rankings, by reciprocal ranks or by "weighted" scores.
            words_only: BM25 alone; so it always is without a backbone.
            within: Search this document alone.

        Raises:
            InputError: no text; pages without any words where words are asked for; no such document.
        """
        if not text.strip():
            raise InputError("There is nothing to search for; give a question in words.")
        if hybrid and words_only:
            raise InputError("Words alone are no hybrid; leave one of the two out.")
        if hybrid and self.backbone is None:
            raise InputError(
                "A hybrid needs a backbone beside the words; these documents were opened without one."
            )
        pool = None if within is None else self._pages_of(within)
        if words_only or self.backbone is None:
            run = self.words.search(_QUERY, text, k, pool)
        elif not hybrid:
            run = self._look(text, k, pool)
        else:
            depth = max(k, _FUSED_DEPTH)
            runs = [self._look(text, depth, pool), self.words.search(_QUERY, text, depth, pool)]
            run = fuse_scores(runs, k) if hybrid == "weighted" else fuse_ranks(runs, k)
        asked = None if words_only else self.backbone
        return PageSearchResult(self.pages, text, None, tuple(run.ranking(_QUERY)), asked)

    def _open_pages(self) -> DocumentPages | RenderedPages:
        if (self.root / MANIFEST).is_file():
            return RenderedPages(self.root)
        return DocumentPages(self.root, self._settings, passwords=self._passwords)

    def _embed(self, backbone: Backbone, store: EmbeddingStore) -> Index | MultiVectorIndex:
        # One file of a folder says nothing about the others, whose vectors lie in the same store.
        update = update_store(backbone, self.pages, store, progress=self.progress, forget=self.root.is_dir())
        self._undrawn = [_undrawn(self.pages, id, why) for id, why in update.failures.items()]
        if not update.ids:
            raise InputError(f"none of the {len(self.pages.ids):,} pages under {self.root} can be drawn.")
        self.changes = update.changes
        if backbone.spec.multi_vector:
            return MultiVectorIndex(update.ids, store.multi_vectors(update.ids))
        return Index(update.ids, store.vectors(update.ids))

    def _look(self, text: str, k: int, pool: Sequence[str] | None) -> Run:
        assert self.backbone is not None
        query = embed_queries(self.backbone, [text])
        pools = None if pool is None else {_QUERY: [id for id in pool if id in self._index.positions]}
        if isinstance(self._index, MultiVectorIndex):
            assert isinstance(query, MultiVectors), (
                "a backbone of several vectors a page has them of a query too"
            )
            return search_multi_vectors(self._index, [_QUERY], query, k, pools=pools)
        return search(self._index, [_QUERY], query, k, pools=pools)  # type: ignore[arg-type]

    def _pages_of(self, file: str) -> list[str]:
        pages = [id for id in self.pages.ids if split_page_id(id)[0] == file]
        if not pages:
            files = dict.fromkeys(split_page_id(id)[0] for id in self.pages.ids)
            raise InputError(
                f"there is no document {file} with pages under {self.root}{nearest(file, files)}."
            )
        return pages


def _undrawn(pages: DocumentPages | RenderedPages, id: str, why: str) -> Failure:
    """Why a page could not be embedded: the cause is found by drawing it again."""
    file, page = split_page_id(id)
    try:
        pages.read(id)
    except PageError as error:
        return Failure.of(file, page, error)
    except InputError:
        pass
    return Failure(file, page, "unreadable", why)


def open_documents(
    root: str | Path,
    backbone: str | None = DEFAULT_BACKBONE,
    *,
    settings: RenderSettings | None = None,
    passwords: Passwords | None = None,
    store: str | Path | None = None,
    texts: str | Path | None = None,
    preprocess: str | None = None,
    device: str = "auto",
    workers: int | None = 0,
    progress: bool = True,
    explain: bool = False,
) -> SearchableDocuments:
    """Draw and embed the pages of a folder of documents, or what is new in it, and make them searchable.

    Args:
        root: A folder of PDFs, images and HTML files at any depth; one such file; or a folder that
            `mmret pages render` wrote.
        backbone: Name of the backbone; None searches words alone. The default ships with the package and knows
            generated pages only; for real ones name a page encoder, such as `dse-qwen2-2b-mrl`.
        settings: How pages are drawn; by default at 150 dpi. Pages that were drawn otherwise are embedded again.
        passwords: Of encrypted PDFs.
        store: Where vectors and words are kept; by default below `root/.mmret`, or in the user's cache where that
            cannot be written. Each backbone has its own.
        texts: A file of `mmret pages text` or `ocr` to take the words from; by default the PDFs' text layer is
            read when words are first asked for.
        preprocess: What becomes of a page before it is encoded, such as `letterbox` or `crops-4x4`; by default the
            backbone's own, which for many CLIPs is a centre crop.
        device: "cpu", "cuda", or "auto" for a GPU when there is one.
        workers: Processes that read the text layer; None is one a core.
        progress: Show a progress bar.
        explain: Refuse a backbone that cannot `PageSearchResult.explain`, before it embeds a page.

    Raises:
        InputError: No such folder, no page in it that can be drawn, an unknown backbone, or one without texts.
    """
    if not (Path(root) / MANIFEST).is_file():
        list_documents(root)  # A wrong path is told before weights are loaded.
    model = None if backbone is None else load_backbone(backbone, preprocess=preprocess, device=device)
    if model is not None and not model.has_text:
        raise InputError(
            f"{backbone} encodes images only; questions need a backbone that reads text as well."
        )
    if model is not None and explain:
        require_map(model)
    return SearchableDocuments(
        root,
        model,
        settings=settings,
        passwords=passwords,
        store=store,
        texts=texts,
        workers=workers,
        progress=progress,
    )
