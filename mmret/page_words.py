"""The words of a folder's pages, read when they are first asked for, and searched by BM25."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from mmret.errors import InputError
from mmret.pages.documents import Passwords, list_documents
from mmret.pages.failures import Failure
from mmret.pages.ocr import OCR
from mmret.pages.text import extract_text, read_texts
from mmret.retrieval.run import Run
from mmret.text_search.bm25 import BM25, TextIndex

_TEXT: Final = "text.jsonl"


class PageWords:
    """The text layer of a folder's PDFs, or the texts of a file, with their BM25.

    Attributes:
        failures: Documents and pages whose text could not be read, when words were asked for.
    """

    def __init__(
        self,
        root: Path,
        place: Path,
        texts: str | Path | None = None,
        passwords: Passwords | None = None,
        workers: int | None = 0,
    ) -> None:
        """Read nothing yet.

        Args:
            root: The folder of documents, or one document.
            place: A folder in which the text layer is kept, so that only changed documents are read again.
            texts: JSON lines of texts by page id, to take instead; by default those that `mmret pages ocr` wrote
                into a folder of rendered pages.
            passwords: Of encrypted PDFs.
            workers: Processes that read; None is one a core.
        """
        self.root, self.place = root, place
        self.texts = root / OCR if texts is None and (root / OCR).is_file() else texts
        self.passwords, self.workers = passwords, workers
        self.reset(())

    def reset(self, ids: Collection[str]) -> None:
        """Let the next search read the texts of these pages anew."""
        self.ids = frozenset(ids)
        self.failures: tuple[Failure, ...] = ()
        self._index: TextIndex | None = None

    def search(self, query_id: str, text: str, k: int, pool: Collection[str] | None = None) -> Run:
        """The k best pages (of a pool) that hold a word of the text.

        Raises:
            InputError: No page has words; `bm25s` is not installed.
        """
        if self._index is None:
            source = self._read_layer() if self.texts is None else Path(self.texts)
            self._index = BM25().index(self._known(source))
        pools = None if pool is None else {query_id: [id for id in self._index.ids if id in pool]}
        return self._index.search({query_id: text}, k, pools=pools)

    def _known(self, source: Path) -> Sequence[tuple[str, str]]:
        """The texts of the folder's pages among those of a file."""
        texts = [(id, text) for id, text in read_texts(source).items() if id in self.ids]
        if not texts:
            raise InputError(f"{source} holds no text of a page under {self.root}.")
        return texts

    def _read_layer(self) -> Path:
        """The file of the text layer, brought up to date."""
        try:
            listing = list_documents(self.root, kinds=["pdf"])
        except InputError as error:
            raise InputError(
                f"{str(error).rstrip('.')}, and only PDFs have a text layer: for the words of other pages give the "
                "texts that `mmret pages ocr` reads."
            ) from error
        out = self.place / _TEXT
        outcome = extract_text(listing, out, passwords=self.passwords, workers=self.workers)
        self.failures = outcome.failures
        return out
