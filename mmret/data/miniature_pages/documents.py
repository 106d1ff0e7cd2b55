"""The generated pages for people and for programs that read documents: as PDFs with questions, and as a picture."""

from __future__ import annotations

import json
import textwrap
from itertools import groupby
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from mmret.atomic import atomic_write, write_text
from mmret.data.miniature_pages.draw import draw_page
from mmret.data.miniature_pages.page import Page
from mmret.data.miniature_pages.questions import KINDS
from mmret.data.miniature_pages.world import NAME, pages_benchmark, pages_of

SCALE: Final = 4
"""How much larger than the encoder sees them pages are written: 512 × 512 pixels, so that OCR can read them."""
POINTS_AN_INCH: Final = 72

_SIDE, _GAP, _LINE = 256, 10, 16


def write_documents(folder: Path, split: str) -> int:
    """Write a split's pages as PDFs of images (no text layer) and its questions as `queries.jsonl`; how many PDFs.

    Pages have the benchmark's ids, so `labelled:FOLDER` and the texts of `mmret pages ocr` fit it. Raises `InputError`
    for an unknown split, or where a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    documents = [
        (name, [page for _, page in pages])
        for name, pages in groupby(pages_of(split).items(), key=lambda item: item[0].partition("#")[0])
    ]
    for name, pages in tqdm(documents, desc=NAME, unit="document", disable=None):
        _write_document(folder / name, pages)
    write_text(folder / "queries.jsonl", "".join(_questions(split)))
    return len(documents)


def sample_sheet(rows: int = 4) -> Image.Image:
    """Questions of each kind with a page that answers them, RGB; a column a kind."""
    benchmark = pages_benchmark("test")
    height = _SIDE + 2 * _LINE + 2 * _GAP
    sheet = Image.new("RGB", (len(KINDS) * (_SIDE + _GAP) + _GAP, rows * height), (225, 225, 228))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for column, kind in enumerate(KINDS):
        asked = [query for query in benchmark.queries if query.attributes["kind"] == kind]
        for row, query in enumerate(asked[:rows]):
            left, top = _GAP + column * (_SIDE + _GAP), _GAP + row * height
            page = draw_page(pages_of("test")[next(iter(query.targets))], SCALE)
            sheet.paste(page.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), (left, top))
            for number, line in enumerate(textwrap.wrap(f"“{query.texts[0]}”", 42)[:2]):
                pen.text((left, top + _SIDE + 2 + number * _LINE), line, fill=(20, 20, 20), font=font)
    return sheet


def _write_document(path: Path, pages: list[Page]) -> None:
    first, *others = (draw_page(page, SCALE) for page in pages)
    with atomic_write(path) as file:
        resolution = SCALE * POINTS_AN_INCH
        first.save(file, "PDF", save_all=True, append_images=others, resolution=resolution, quality=95)


def _questions(split: str) -> list[str]:
    """Lines in the layout of `mmret.data.page_labels`."""
    lines = []
    for query in pages_benchmark(split).queries:
        places = [id.partition("#") for id in query.targets]
        record = {
            "qid": query.id,
            "query": query.texts[0],
            "relevant": [[file, int(page)] for file, _, page in places],
        }
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    return lines
