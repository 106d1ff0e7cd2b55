"""Small training sets of queries and pages, one in each layout, whose pages can be told by their colour."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from tests.data.page_layouts import write_lines
from tests.pages.pdf_files import make_pdf


def shade(pixels: Tensor) -> int:
    """The number of the page that uint8 [3, H, W] shows, drawn by `page_layouts.picture` or `write_pairs`."""
    _, height, width = pixels.shape
    return round(int(pixels[0, height // 2, width // 2]) / 10)


def shade_of(page: Image.Image) -> int:
    """The same of a page that was read."""
    return shade(pil_to_tensor(page))


def write_pairs(root: Path, pairs: int = 8, negatives: Mapping[int, Sequence[str]] | None = None) -> Path:
    """Pairs in JSON lines: query `q{n}` and the image `p{n}.png`, whose red is 10 n."""
    root.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for number in range(pairs):
        Image.new("RGB", (40, 30), (10 * number, 200, 90)).save(root / f"p{number}.png")
        own = (negatives or {}).get(number, [])
        rows.append({"query": f"q{number}", "page": f"p{number}.png", "negatives": own})
    return write_lines(root / "pairs.jsonl", rows)


def write_manuals(root: Path) -> Path:
    """Three PDFs, two of them with outlines that share the title "Introduction"."""
    root.mkdir(parents=True, exist_ok=True)
    first = [("Introduction", 0), ("Usage", 1), ("usage", 2)]
    (root / "a.pdf").write_bytes(make_pdf(["x", "y", "z"], outline=first))
    (root / "b.pdf").write_bytes(make_pdf(["x", "y"], outline=[("INTRODUCTION", 0)]))
    (root / "c.pdf").write_bytes(make_pdf(["x"]))
    return root


def write_negatives_file(path: Path, negatives: Mapping[str, Sequence[str]]) -> Path:
    """A file of mined negatives in the order given."""
    lines: list[dict[str, Any]] = [{"made_by": {"hand": "yes"}}]
    for query, pages in negatives.items():
        listed = [{"page_id": page, "score": 1 - rank / 10} for rank, page in enumerate(pages)]
        lines.append({"query_id": query, "negatives": listed, "positive_score": 2.0})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path
