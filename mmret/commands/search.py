"""`mmret search`: one's own photos, or one's own documents."""

import argparse
import sys
from pathlib import Path
from typing import Final, Literal

from mmret import document_search, folder_search
from mmret.commands.pages import EXIT_SOME_FAILED, add_passwords, add_workers, passwords_of
from mmret.composition import PDV
from mmret.display import Gallery
from mmret.document_search import SearchableDocuments, open_documents
from mmret.errors import InputError
from mmret.folder_search import composer_of, open_folder
from mmret.page_search_result import PageSearchResult
from mmret.pages.documents import MANIFEST, list_documents
from mmret.pages.failures import summary, write_failures
from mmret.pages.settings import DEFAULT_DPI, RenderSettings, Sizing

Kind = Literal["photos", "documents"]

FAILURES: Final = "failures.jsonl"
_PHOTO_OPTIONS: Final = ("image", "phi", "text_encoder", "alpha_text", "alpha_image", "beta")
_DOCUMENT_OPTIONS: Final = (
    "hybrid",
    "words_only",
    "within",
    "texts",
    "explain",
    "preprocess",
    "dpi",
    "longest_side",
)


def build_parser() -> argparse.ArgumentParser:
    """The options of `mmret search`."""
    parser = argparse.ArgumentParser(
        prog="mmret search",
        description="Search a folder of photos by text, by image, or by both; or the pages of a folder of documents "
        "by a question. Prints the best, and writes a gallery. Only what changed since the last time is read again.",
    )
    parser.add_argument("folder", type=Path, help="searched at any depth; or one document")
    parser.add_argument("query", nargs="?", default="", help="what to find")
    parser.add_argument("--text", default="", help="the same, or how it should differ from --image")
    parser.add_argument(
        "--kind",
        choices=("photos", "documents"),
        help="what the folder holds (documents if there is a PDF, an HTML file or a manifest of rendered pages)",
    )
    parser.add_argument(
        "--backbone",
        help=f"its name (default {folder_search.DEFAULT_BACKBONE}, or {document_search.DEFAULT_BACKBONE})",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto (default)")
    parser.add_argument("-k", type=int, default=10, help="how many to show (default 10)")
    parser.add_argument("--out", type=Path, default=Path("runs/search"), help="of the gallery (%(default)s)")
    parser.add_argument("--store", help="folder of the vectors (default FOLDER/.mmret)")
    _add_photo_options(parser)
    _add_document_options(parser)
    return parser


def _add_photo_options(parser: argparse.ArgumentParser) -> None:
    photos = parser.add_argument_group("photos")
    photos.add_argument("--image", help="reference image")
    photos.add_argument("--phi", help="file of a φ network: the image becomes a word of the text")
    photos.add_argument("--text-encoder", help="file of a tuned text encoder (RTD's), for the query's text")
    knobs = parser.add_argument_group("PDV, with --phi (giving any of them turns it on; others are 1)")
    knobs.add_argument("--alpha-text", type=float)
    knobs.add_argument("--alpha-image", help="a number or auto")
    knobs.add_argument("--beta", type=float)


def _add_document_options(parser: argparse.ArgumentParser) -> None:
    documents = parser.add_argument_group("documents")
    how = documents.add_mutually_exclusive_group()
    how.add_argument(
        "--hybrid",
        action="store_const",
        const="ranks",
        help="join the pages' looks and their words (BM25) by reciprocal ranks",
    )
    how.add_argument(
        "--hybrid-weighted",
        action="store_const",
        const="weighted",
        dest="hybrid",
        help="the same by sums of scaled scores",
    )
    how.add_argument("--words-only", action="store_true", help="BM25 alone; no model is loaded")
    documents.add_argument("--within", metavar="FILE", help="search this document alone")
    documents.add_argument(
        "--texts", type=Path, help="a file of `mmret pages text` or `ocr` (default: the PDFs' text layer)"
    )
    documents.add_argument(
        "--explain", action="store_true", help="colour the gallery's pages where they answered"
    )
    documents.add_argument(
        "--preprocess", metavar="NAME", help="letterbox, squash, crops-4x4, … (the backbone's own)"
    )
    size = documents.add_mutually_exclusive_group()
    size.add_argument("--dpi", type=float, help=f"at which pages are drawn ({DEFAULT_DPI})")
    size.add_argument("--longest-side", type=int, metavar="PIXELS", help="instead: of the longer side")
    add_passwords(documents)
    add_workers(documents)


def kind_of(folder: Path) -> Kind:
    """What a folder holds: documents if there is a PDF, an HTML file or a manifest in it, else photos."""
    if (folder / MANIFEST).is_file():
        return "documents"
    try:
        list_documents(folder, kinds=("pdf", "html"))
    except InputError:  # none of these
        return "photos"
    return "documents"


def main(argv: list[str]) -> int:
    """`mmret search FOLDER …`: print ranks and scores, write a gallery; 1 if a document could not be read."""
    options = build_parser().parse_args(argv)
    if options.query and options.text:
        raise InputError("The question stands behind the folder or behind --text, not in both places.")
    options.text = options.text or options.query
    kind: Kind = options.kind or kind_of(options.folder)
    _refuse(options, _DOCUMENT_OPTIONS if kind == "photos" else _PHOTO_OPTIONS, kind)
    return _search_photos(options) if kind == "photos" else _search_documents(options)


def _refuse(options: argparse.Namespace, names: tuple[str, ...], kind: Kind) -> None:
    """Refuse options that mean nothing for a kind of folder."""
    values = {name: getattr(options, name) for name in names}
    given = [name for name, value in values.items() if value is not None and value is not False]
    if given:
        raise InputError(
            f"--{given[0].replace('_', '-')} is no option for {kind}, which {options.folder} seems to hold; "
            "--kind says what it is."
        )


def _search_photos(options: argparse.Namespace) -> int:
    pdv = _pdv(options)
    # What can be told without the model is told before it is loaded.
    composer_of(bool(options.text.strip()), options.image is not None, options.phi, pdv)
    _require(options.folder)
    if options.backbone is None:
        _say(
            f"{folder_search.DEFAULT_BACKBONE} knows drawn shapes only; for photos give --backbone clip-vit-b-32"
        )
    folder = open_folder(
        options.folder,
        options.backbone or folder_search.DEFAULT_BACKBONE,
        store=options.store,
        device=options.device,
        text_encoder=options.text_encoder,
    )
    _say(f"{folder.root}: {len(folder.index):,} images ({folder.changes})")
    result = folder.search(options.text, options.image, k=options.k, phi=options.phi, pdv=pdv)
    for rank, (name, score) in enumerate(result.hits, start=1):
        print(_line(rank, score, name))
    _save(result.gallery, options.out)
    return 0


def _search_documents(options: argparse.Namespace) -> int:
    if not options.text.strip():
        raise InputError("There is nothing to search for; give a question behind the folder.")
    if options.explain and options.words_only:
        raise InputError("--explain shows what a backbone looks at, and --words-only loads none.")
    _require(options.folder)
    documents = _open_documents(options)
    result = documents.search(
        options.text,
        k=options.k,
        hybrid=options.hybrid or False,
        words_only=options.words_only,
        within=options.within,
    )
    for hit in result.pages:
        print(_line(hit.rank, hit.score, hit.place))
    write_failures(options.out / FAILURES, documents.failures)
    _save(_gallery(result, options.explain), options.out)
    for line in summary(documents.failures):
        _say(line)
    return EXIT_SOME_FAILED if documents.failures else 0


def _open_documents(options: argparse.Namespace) -> SearchableDocuments:
    """The documents that the options name, with a line on what was found in them."""
    backbone = None if options.words_only else options.backbone or document_search.DEFAULT_BACKBONE
    if backbone is not None and options.backbone is None:
        _say(f"{backbone} knows generated pages only; for real ones give --backbone dse-qwen2-2b-mrl")
    sizing = Sizing.chosen(options.dpi, options.longest_side)
    documents = open_documents(
        options.folder,
        backbone,
        settings=RenderSettings(sizing=sizing),
        passwords=passwords_of(options),
        store=options.store,
        texts=options.texts,
        preprocess=options.preprocess,
        device=options.device,
        workers=options.workers,
        explain=options.explain,
    )
    if documents.backbone is not None and documents.backbone.spec.preprocess.startswith("center-crop"):
        _say(f"{backbone} sees the centre of each page; --preprocess letterbox or crops-4x4 shows it all")
    changes = "" if backbone is None else f" ({documents.changes})"
    _say(f"{documents.root}: {len(documents.pages.ids):,} pages{changes}")
    return documents


def _gallery(result: PageSearchResult, explain: bool) -> Gallery:
    """The pages found, coloured where they answered if that is asked for and can be said of all of them."""
    try:
        return result.explained if explain else result.gallery
    except InputError as error:
        if not explain:
            raise
        _say(f"the pages are not coloured: {error}")
        return result.gallery


def _require(folder: Path) -> None:
    """Raise `InputError` for a folder that is not there, before anything is said of what searches it."""
    if not folder.exists():
        raise InputError(f"There is no folder {folder}.")


def _pdv(options: argparse.Namespace) -> PDV | None:
    knobs = {name: getattr(options, name) for name in ("alpha_text", "alpha_image", "beta")}
    given = {name: value for name, value in knobs.items() if value is not None}
    return PDV.from_spec(given) if given else None


def _line(rank: int, score: float, name: str) -> str:
    return f"{rank:>3}  {score: .4f}  {name}"


def _save(gallery: Gallery, out: Path) -> None:
    page = out / "gallery.html"
    gallery.save(page)
    _say(f"gallery written to {page}")


def _say(text: str) -> None:
    print(f"mmret: {text}", file=sys.stderr)
