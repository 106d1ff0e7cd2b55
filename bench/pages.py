"""Pages of PDFs to RGB arrays: pypdfium2 against pdf2image, what files cost on top, and memory over many pages.

    python bench/pages.py              # 64 pages of each file at 200 dpi, and 10,000 pages for the memory
    python bench/pages.py --quick      # a few pages, for a look

Both get the same pages of the same files in the same chunks of eight, and the same number of processes, which are
started and warmed before the clock runs; all are measured in turn in each repeat. *pdf2image* is called as its users
call it, `convert_from_path(first_page, last_page)`, with a `pdftoppm` of its own in every process. Rates are medians
with their range, ratios are taken within the repeats. Memory is what all processes of `mmret pages render` hold
together at their peak, interpreters and libraries included, as `bench/demo.py` measures it, at 20 dpi to PNG and at
150 dpi to JPEG; what a hundred times as many pages add to it is its growth.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from io import BytesIO
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pdf2image
from demo import Usage, measured
from measuring import Seconds, interleaved, machine, spread, table_head, table_row
from PIL import Image

from mmret.pages.pdf import open_pdf
from mmret.pages.renderers import PdfiumPages
from mmret.pages.settings import RenderSettings, Sizing

DOCUMENTS = Path(__file__).parents[2] / "shared" / "data" / "documents"
FILES = ("contoso/Northwind_Standard_Benefits_Details.pdf", "debian-manuals/debian-policy/policy.pdf")
CHUNK = 8
DPI = 200
DRAWINGS = ((20, "png"), (150, "jpeg"))


class Part(NamedTuple):
    """Pages `first` to `last` (from 0, both counted) of a file."""

    path: Path
    first: int
    last: int


def with_pypdfium2(part: Part, then: Callable[[Image.Image], object]) -> int:
    renderer = PdfiumPages(RenderSettings(sizing=Sizing(dpi=DPI)))
    pages = renderer.pages(part.path, range(part.first, part.last + 1))
    return sum(bool(then(image)) for _, image in pages if isinstance(image, Image.Image))


def with_pdf2image(part: Part, then: Callable[[Image.Image], object]) -> int:
    images = pdf2image.convert_from_path(
        part.path, dpi=DPI, first_page=part.first + 1, last_page=part.last + 1
    )
    return sum(bool(then(image)) for image in images)


def to_array(image: Image.Image) -> int:
    """Bytes of the RGB array uint8 [height, width, 3]."""
    return np.asarray(image).nbytes


def to_png(image: Image.Image) -> int:
    image.save(file := BytesIO(), "png", compress_level=1)
    return file.tell()


def to_jpeg(image: Image.Image) -> int:
    image.save(file := BytesIO(), "jpeg", quality=90)
    return file.tell()


PEER = "pdf2image → RGB arrays, 8 pages a call"
WAYS: dict[str, Callable[[Part], int]] = {
    "pypdfium2 → RGB arrays": partial(with_pypdfium2, then=to_array),
    PEER: partial(with_pdf2image, then=to_array),
    "pypdfium2 → JPEG": partial(with_pypdfium2, then=to_jpeg),
    "pypdfium2 → PNG": partial(with_pypdfium2, then=to_png),
}


def parts(path: Path, pages: int) -> list[Part]:
    """The first pages of a file, in chunks."""
    with open_pdf(path) as document:
        count = min(len(document), pages)
    return [Part(path, first, min(first + CHUNK, count) - 1) for first in range(0, count, CHUNK)]


def speed(files: Sequence[Path], pages: int, processes: int, repeats: int) -> None:
    """Print pages a second of each way for each file, and the ratio to pdf2image's."""
    rows: dict[str, list[str]] = {name: [] for name in WAYS}
    for path in files:
        times, count = file_times(path, pages, processes, repeats)
        for name, seconds in times.items():
            rows[name] += [spread(count / seconds), spread(times[PEER] / seconds, "×")]
    print(
        f"\nAt most {pages} pages of each file, {DPI} dpi, {processes} processes, {repeats} interleaved repeats; "
        "pages/s, and the ratio to pdf2image:\n"
    )
    print(table_head("", *(cell for path in files for cell in (path.name, "÷ pdf2image"))))
    for name, cells in rows.items():
        print(table_row(name, *cells))


def file_times(path: Path, pages: int, processes: int, repeats: int) -> tuple[dict[str, Seconds], int]:
    """Seconds [repeats] of each way over the first pages of a file, and the number of these pages."""
    work = parts(path, pages)
    count = sum(part.last - part.first + 1 for part in work)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        runs = {name: partial(_all, pool, way, work, count) for name, way in WAYS.items()}
        for run in runs.values():
            run()
        return interleaved(runs, repeats, path.name), count


def _all(pool: ProcessPoolExecutor, way: Callable[[Part], int], work: Sequence[Part], count: int) -> None:
    done = sum(pool.map(way, work))
    assert done == count, f"{done} of {count} pages"


def corpus(folder: Path, files: Sequence[Path], pages: int) -> int:
    """Link files into a folder, again and again, until they have so many pages; their number."""
    total = 0
    for number, path in enumerate(cycle(files)):
        if total >= pages:
            return total
        with open_pdf(path) as document:
            total += len(document)
        (folder / f"{number:05d}-{path.name}").symlink_to(path.resolve())
    return total


def memory(files: Sequence[Path], pages: int, processes: int) -> None:
    """Print what `mmret pages render` holds over so many pages and over a hundredth of them, and the growth between."""
    print(f"\n{len(files)} files, whole, again and again, {processes} processes;")
    print("peak MB of all processes together:\n")
    print(table_head("", "pages", "peak MB", "pages", "peak MB", "growth, MB", "pages/s"))
    for dpi, format in DRAWINGS:
        few, few_usage = rendered(files, pages // 100, processes, dpi, format)
        many, usage = rendered(files, pages, processes, dpi, format)
        growth = usage.together_mb - few_usage.together_mb
        cells = (f"{few:,}", f"{few_usage.together_mb:.0f}", f"{many:,}", f"{usage.together_mb:.0f}")
        print(
            table_row(f"{dpi} dpi, {format}", *cells, f"{round(growth):+d}", f"{many / usage.seconds:.0f}"),
            flush=True,
        )


def rendered(files: Sequence[Path], pages: int, processes: int, dpi: int, format: str) -> tuple[int, Usage]:
    """The number of pages of a corpus of at least so many, and what rendering it took."""
    with tempfile.TemporaryDirectory() as folder:
        docs, out = Path(folder, "docs"), Path(folder, "out")
        docs.mkdir()
        count = corpus(docs, files, pages)
        options = ["--out", str(out), "--dpi", str(dpi), "--format", format, "--workers", str(processes)]
        return count, measured([sys.executable, "-m", "mmret", "pages", "render", str(docs), *options])


def generated(folder: Path, pages: int) -> Path:
    """A PDF of noisy pictures, where there are no real documents."""
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, (220, 170, 3), np.uint8)) for _ in range(pages)]
    path = folder / "generated.pdf"
    images[0].save(path, save_all=True, append_images=images[1:], resolution=20)
    return path


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="8 pages a file, a corpus of 100 pages")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    pages, many, repeats = (8, 100, 1) if options.quick else (64, 10_000, options.repeats)
    with tempfile.TemporaryDirectory() as folder:
        files = [DOCUMENTS / name for name in FILES]
        manuals = sorted((DOCUMENTS / "debian-manuals").rglob("*.pdf"))
        if not (manuals and all(path.is_file() for path in files)):
            files = manuals = [generated(Path(folder), 64)]
        print(machine("pypdfium2", "pdf2image", "pillow"))
        speed(files, pages, options.processes, repeats)
        if Path("/proc/self/smaps_rollup").exists():
            memory(manuals, many, options.processes)


if __name__ == "__main__":
    main()
