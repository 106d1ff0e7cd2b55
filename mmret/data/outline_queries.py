"""The outlines of a folder of PDFs as a training set: each title is a query for the pages that it leads to."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from mmret.data.images import ImageSource
from mmret.data.query_pages import PageQuery, QueryPages
from mmret.errors import InputWarning
from mmret.pages.documents import list_documents, page_id
from mmret.pages.failures import Failure
from mmret.pages.outlines import outline_pairs
from mmret.pages.settings import RenderSettings
from mmret.pages.sources import DocumentPages, RenderedPages


def read_outline_queries(
    root: Path, rendered: str | None = None, settings: RenderSettings | None = None
) -> QueryPages:
    """The titles of all outlines below a folder. Queries of one document are held out together.

    A title that stands in two documents ("Introduction") is two queries; the pages of the one are then no negatives of
    the other. Documents that cannot be read are left out with a warning.

    Args:
        root: The folder of documents.
        rendered: A folder of rendered pages to read images from; else pages are drawn as they are read.
        settings: How they are drawn then.

    Raises:
        InputError: No PDF, none with an outline; rendered pages that are another folder's.
    """
    listing = list_documents(root, kinds=["pdf"])
    found = outline_pairs(listing, workers=0)
    pages: ImageSource
    if rendered is None:
        drawn = DocumentPages(root, settings, only=[document.file for document in listing.documents])
        _warn(drawn.failures)
        pages = drawn
    else:
        pages = RenderedPages(rendered)
        _warn(found.failures)
    queries = (
        PageQuery(
            id=record["qid"],
            text=record["query"],
            positives=tuple(page_id(file, page) for file, page in record["relevant"]),
            group=record["file"],
        )
        for record in found.records
    )
    return QueryPages.of(f"outlines:{root}", queries, pages)


def _warn(failures: Sequence[Failure]) -> None:
    if failures:
        warnings.warn(
            f"{len(failures):,} documents cannot be read and are left out, the first: {failures[0]}.",
            InputWarning,
            stacklevel=3,
        )
