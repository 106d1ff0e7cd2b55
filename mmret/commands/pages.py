"""`mmret pages`: page images, texts and outlines of a folder of documents."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmret.data.images import ImageSource
from mmret.data.records import read_text
from mmret.errors import InputError
from mmret.pages.documents import Listing, Passwords, list_documents
from mmret.pages.failures import Failure, summary
from mmret.pages.processing import Outcome
from mmret.pages.settings import DEFAULT_DPI, MAX_PIXELS, RenderSettings, Sizing

EXIT_SOME_FAILED = 1


def build_parser() -> argparse.ArgumentParser:
    """The options of `mmret pages`."""
    parser = argparse.ArgumentParser(
        prog="mmret pages",
        description="Pages of a folder of documents. Killed runs go on where they stopped; files and pages that "
        "fail are named with their cause, and the rest goes on. Exit status 1 if any failed.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_render(commands.add_parser("render", help="PDFs, images and HTML files to page images"))
    text = commands.add_parser("text", help="the text layer of PDFs to JSON lines")
    _add_documents(text, "the JSON-lines file to write")
    _add_ocr(commands.add_parser("ocr", help="the text of images by tesseract, to JSON lines"))
    outlines = commands.add_parser("outlines", help="the outlines of PDFs to (title, page) pairs")
    _add_documents(outlines, "the JSON-lines file to write")
    return parser


def _add_render(parser: argparse.ArgumentParser) -> None:
    _add_documents(parser, "the folder to write")
    parser.add_argument(
        "--renderer", default="pypdfium2", help="of PDFs: pypdfium2 or pdf2image (%(default)s)"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--dpi", type=float, help=f"dots an inch ({DEFAULT_DPI})")
    size.add_argument("--longest-side", type=int, metavar="PIXELS", help="instead: of the longer side")
    size.add_argument("--size", type=_pixels, metavar="WxH", help="instead: exactly so many pixels")
    parser.add_argument("--format", choices=("png", "jpeg"), default="png", help="(%(default)s)")
    parser.add_argument("--quality", type=int, default=90, help="of JPEG (%(default)s)")
    parser.add_argument("--max-pixels", type=int, default=MAX_PIXELS, help="of a page (%(default)s)")


def _add_ocr(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pages", type=Path, nargs="?", help="a folder that `mmret pages render` wrote")
    parser.add_argument("--benchmark", help="instead: whose images are read, such as slidevqa, tables:FOLDER")
    parser.add_argument("--split", default="test", help="of the benchmark (%(default)s)")
    parser.add_argument("--root", type=Path, help="the benchmark's folder (below $MMRET_DATA or data)")
    parser.add_argument(
        "--allow-missing", action="store_true", help="go on without images that are not there"
    )
    parser.add_argument("--out", type=Path, help="the JSON-lines file to write (ocr.jsonl in the folder)")
    parser.add_argument("--languages", default="eng", help="of the pages, such as deu+eng (%(default)s)")
    parser.add_argument("--layout", type=int, default=3, help="page segmentation mode (%(default)s)")
    add_workers(parser)


def _add_documents(parser: argparse.ArgumentParser, out: str) -> None:
    parser.add_argument("documents", type=Path, help="a folder, searched at any depth, or one file")
    parser.add_argument("--out", type=Path, required=True, help=out)
    parser.add_argument(
        "--files", type=Path, help="a list of files below the folder, one a line, to take instead of all"
    )
    add_passwords(parser)
    add_workers(parser)


def add_passwords(parser: argparse._ActionsContainer) -> None:
    """Add the options that `passwords_of` reads."""
    parser.add_argument("--password", help="of encrypted PDFs (others see it in the list of processes)")
    parser.add_argument("--passwords", type=Path, help='JSON lines {"file": …, "password": …}')


def add_workers(parser: argparse._ActionsContainer) -> None:
    """Add the option of how many processes work."""
    parser.add_argument(
        "--workers", type=_processes, metavar="N", help="processes (one a core; 0: none beside this one)"
    )


def _processes(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes; give 0 or more")
    return int(text)


def _pixels(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write it like 980x980")
    return int(width), int(height)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the subcommand; 0 if all went well, 1 if some files or pages failed."""
    options = build_parser().parse_args(argv)
    run = {"render": _render, "text": _text, "ocr": _ocr, "outlines": _outlines}[options.command]
    failures: Sequence[Failure] = run(options)
    for line in summary(failures):
        print(line)
    return EXIT_SOME_FAILED if failures else 0


def _listing(options: argparse.Namespace, **kinds: Sequence[str]) -> Listing:
    only = read_text(options.files).split("\n") if options.files else None
    named = None if only is None else [line.strip() for line in only if line.strip()]
    return list_documents(options.documents, only=named, **kinds)  # type: ignore[arg-type]


def passwords_of(options: argparse.Namespace) -> Passwords:
    """The passwords that a command's options name; raises `InputError` for a file that holds none."""
    if options.passwords is not None:
        return Passwords.read(options.passwords, options.password)
    return Passwords(options.password)


def _render(options: argparse.Namespace) -> Sequence[Failure]:
    from mmret.pages.render import FAILURES, render_documents

    settings = RenderSettings(
        options.renderer,
        Sizing.chosen(options.dpi, options.longest_side, options.size),
        options.format,
        options.quality,
        options.max_pixels,
    )
    passwords = passwords_of(options)
    outcome = render_documents(
        _listing(options), options.out, settings, passwords=passwords, workers=options.workers
    )
    return _told(outcome, "pages rendered", options.out, options.out / FAILURES)


def _text(options: argparse.Namespace) -> Sequence[Failure]:
    from mmret.pages.text import extract_text, failures_path

    listing = _listing(options, kinds=["pdf"])
    outcome = extract_text(listing, options.out, passwords=passwords_of(options), workers=options.workers)
    return _told(outcome, "pages read", options.out, failures_path(options.out))


def _ocr(options: argparse.Namespace) -> Sequence[Failure]:
    from mmret.pages.ocr import OcrSettings, recognise_text
    from mmret.pages.text import failures_path

    images, out = _images(options)
    settings = OcrSettings(options.languages, options.layout)
    outcome = recognise_text(images, out, settings, workers=options.workers)
    return _told(outcome, "pages read", out, failures_path(out))


def _images(options: argparse.Namespace) -> tuple[ImageSource, Path]:
    """What OCR reads, and the file it writes."""
    from mmret.pages.ocr import OCR
    from mmret.pages.sources import RenderedPages

    if (options.pages is None) == (options.benchmark is None):
        raise InputError(
            "mmret pages ocr reads a folder of rendered pages, or the images of a --benchmark: name one."
        )
    if options.benchmark is None:
        return RenderedPages(options.pages), options.out or options.pages / OCR
    if options.out is None:
        raise InputError("A benchmark's texts need a file of their own: name it with --out.")
    return _benchmark_images(options), options.out


def _benchmark_images(options: argparse.Namespace) -> ImageSource:
    from mmret.data import load_benchmark
    from mmret.data.image_sources import SomeImages

    benchmark = load_benchmark(
        options.benchmark, options.split, options.root, allow_missing=options.allow_missing
    )
    if benchmark.texts:
        raise InputError(f"{benchmark.name} searches texts and not images: there is nothing to read.")
    return SomeImages(benchmark.images, benchmark.gallery)


def _outlines(options: argparse.Namespace) -> Sequence[Failure]:
    from mmret.pages.outlines import outline_pairs, write_pairs

    listing = _listing(options, kinds=["pdf"])
    pairs = outline_pairs(listing, passwords=passwords_of(options), workers=options.workers)
    write_pairs(options.out, pairs)
    print(f"{len(pairs.records):,} queries of {pairs.entries:,} outline entries: {options.out}")
    return pairs.failures


def _told(outcome: Outcome, what: str, out: Path, report: Path) -> Sequence[Failure]:
    forgotten = f", {len(outcome.forgotten):,} forgotten" if outcome.forgotten else ""
    print(f"{outcome.done:,} {what}, {outcome.kept:,} were there{forgotten}: {out}")
    if outcome.failures:
        print(f"failures are listed in {report}")
    return outcome.failures
