"""Questions about a folder of PDFs whose answers stand on known pages, as in Azure's Contoso sample.

    folder/
      *.pdf            at any depth; a page is `file#page`, with pages from 0 (`mmret.pages.documents`)
      queries.jsonl    {"qid": "q1", "query": "how is …?", "relevant": [["handbook.pdf", 3]]}

Two benchmarks, for they answer two questions: over the whole pool (`labelled:FOLDER`), and within the document
(`labelled-within:FOLDER`), where each question ranks the pages of the documents that its answers stand in.

Where nobody has asked, the PDFs' outlines do (`outlines:FOLDER`, `outlines-within:FOLDER`): each title is a question
for the pages that it leads to; `?only=a.pdf,b.pdf` takes some documents only, such as those not trained on.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from mmret.data import records
from mmret.data.benchmark import Benchmark, Query
from mmret.data.protocol import Gallery, page_protocol
from mmret.data.published import Annotations, Release
from mmret.errors import InputError
from mmret.pages.documents import list_documents, page_id, split_page_id
from mmret.pages.outlines import outline_pairs
from mmret.pages.sources import DocumentPages

QUERIES: Final = "queries.jsonl"
METRICS: Final = ("ndcg@5", "ndcg@10", "recall@1", "recall@5", "recall@10", "success@1")


class LabelledPages:
    """The pages of a folder of PDFs, drawn when they are read; all of them can be had, or opening the folder fails."""

    def __init__(self, root: Path, only: Sequence[str] | None = None) -> None:
        self.root = root
        self._pages = DocumentPages(root, only=only)
        if self._pages.failures:
            raise InputError(f"{root} has documents that cannot be read: {self._pages.failures[0]}")
        self.ids: Sequence[str] = tuple(self._pages.ids)
        self.read = self._pages.read
        self.stamp = self._pages.stamp

    def missing(self, ids: Iterable[str]) -> list[str]:
        """None: each id is a page of a document that was opened."""
        known = set(self.ids)
        return [id for id in ids if id not in known]

    def place(self, id: str) -> str:
        """The page's document."""
        return str(self.root / split_page_id(id)[0])


Labels = Iterable[tuple[str, Mapping[str, Any]]]
"""Records of questions, each with the place that it was read at."""


def read_labels(root: Path, gallery: Gallery) -> Annotations:
    """The questions of a folder, and the pages of its documents.

    Raises:
        InputError: No `queries.jsonl`, a record of another form, a page that is not there, documents that fail.
    """
    return _annotations(LabelledPages(root), records.read_json_lines(root / QUERIES), gallery)


def _annotations(images: LabelledPages, labels: Labels, gallery: Gallery) -> Annotations:
    documents: dict[str, list[str]] = defaultdict(list)
    for id in images.ids:
        documents[split_page_id(id)[0]].append(id)
    within = gallery == "document"
    queries = tuple(_query(record, where, documents, within=within) for where, record in labels)
    return Annotations(queries, tuple(images.ids), images)


def _query(
    record: Mapping[str, Any], where: str, documents: Mapping[str, Sequence[str]], *, within: bool
) -> Query:
    labels = records.field(record, "relevant", list, where)
    targets = {_page(label, documents, where): 1 for label in labels}
    files = dict.fromkeys(split_page_id(id)[0] for id in targets)
    return Query(
        id=records.field(record, "qid", str, where),
        reference=None,
        texts=(records.field(record, "query", str, where),),
        targets=targets,
        subset=tuple(id for file in files for id in documents[file]) if within else (),
        attributes={"document": tuple(files)},
    )


def _page(label: Any, documents: Mapping[str, Sequence[str]], where: str) -> str:
    if not (isinstance(label, list) and [type(item) for item in label] == [str, int]):
        raise InputError(f"{where}: 'relevant' holds {label!r}, where [file, page] is needed.")
    file, page = label
    id = page_id(file, page)
    if id not in documents.get(file, ()):
        raise InputError(f"{where} names page {page} of {file}, which is not there (pages count from 0).")
    return id


def load_labelled(root: str | Path, gallery: Gallery) -> Benchmark:
    """The questions of one's own folder; the version is a digest of the questions and of the documents' pages."""
    place = _folder(root)
    return _own(place, read_labels(place, gallery), gallery, (place / QUERIES).read_bytes())


def load_outlines(root: str | Path, gallery: Gallery, only: Sequence[str] | None = None) -> Benchmark:
    """The titles in the outlines of a folder's PDFs, or of `only` some of them, as questions; versions as above.

    Raises:
        InputError: No such folder or documents, documents that fail, or none with an outline.
    """
    place = _folder(root)
    found = _read_outlines(place, gallery, only)
    asked = [(query.id, *query.texts, *query.targets) for query in found.queries]
    return _own(place, found, gallery, json.dumps(asked).encode())


def _read_outlines(root: Path, gallery: Gallery, only: Sequence[str] | None = None) -> Annotations:
    titles = outline_pairs(list_documents(root, only=only, kinds=["pdf"])).records
    images = LabelledPages(root, sorted({record["file"] for record in titles}))
    return _annotations(images, ((str(root), record) for record in titles), gallery)


def _folder(root: str | Path) -> Path:
    place = Path(root)
    if not place.is_dir():
        raise InputError(f"There is no folder {place}.")
    return place


def _own(place: Path, found: Annotations, gallery: Gallery, content: bytes) -> Benchmark:
    """A benchmark of one's own documents; `content` is what was asked, for the version."""
    name, pages = place.resolve().name, "\0".join(found.gallery).encode()
    return Benchmark(
        name=name if gallery == "split" else f"{name}-within",
        version=hashlib.sha256(content + pages).hexdigest()[:12],
        split="test",
        images=found.images,
        gallery=found.gallery,
        queries=found.queries,
        protocol=page_protocol(gallery=gallery),
        metrics=METRICS,
    )


ASKED: Final = (
    "debian-policy/policy.pdf",
    "gnuplot-doc/gnuplot.pdf",
    "octave-doc/octave.pdf",
    "r-doc-pdf/R-exts.pdf",
)
"""The manuals that `debian-manuals` asks about."""


def _releases(
    name: str, counts: Mapping[str, int], files: Sequence[str], read: Callable[[Path, Gallery], Annotations]
) -> tuple[Release, Release]:
    """A set of documents over all of its pages, and within the documents that hold a question's answers."""
    return tuple(  # type: ignore[return-value]
        Release(
            name=name if gallery == "split" else f"{name}-within",
            folder=f"documents/{name}",
            version="1",
            counts={"test": counts},
            protocol=page_protocol(gallery=gallery),
            metrics=METRICS,
            files=lambda root, split: tuple(root / file for file in files),
            read=lambda root, split, protocol: read(root, protocol.gallery),
            text_fields=("query",),
        )
        for gallery in _GALLERIES
    )


_GALLERIES: Final[tuple[Gallery, Gallery]] = ("split", "document")
CONTOSO: Final = _releases("contoso", {"queries": 201, "gallery entries": 263}, [QUERIES], read_labels)
"""The sample's 201 questions over all of its pages, and within the documents of their answers."""
MANUALS: Final = _releases(
    "debian-manuals", {"queries": 1629, "gallery entries": 1898}, ASKED, partial(_read_outlines, only=ASKED)
)
"""The outlines of four of the Debian manuals, over all of their pages and within each; others are there to train on."""
