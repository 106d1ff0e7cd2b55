"""Draw where generated pages answer, one for each kind: python docs/similarity_maps.py docs/similarity_maps.png."""

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mmret.backbones import load_backbone
from mmret.data import load_benchmark
from mmret.similarity_maps import similarity_map

SHOWN = {"text": 3, "layout": 5, "picture": 8}
SIDE, GAP, LINE = 384, 12, 26


def main(out: Path) -> None:
    """Write the picture: each question, and under it the first right page with the parts that answered."""
    backbone = load_backbone("miniature-pages")
    sheet = Image.new("RGB", (len(SHOWN) * (SIDE + GAP) - GAP, LINE + SIDE), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for column, (kind, position) in enumerate(SHOWN.items()):
        benchmark = load_benchmark(f"miniature-pages-{kind}", "test")
        query = benchmark.queries[position]
        page = benchmark.images.read(next(iter(query.targets)))
        shown = similarity_map(backbone, query.texts[0], page).overlay()
        left = column * (SIDE + GAP)
        pen.text((left, 2), query.texts[0], fill="black", font=font)
        sheet.paste(shown.resize((SIDE, SIDE)), (left, LINE))
    sheet.save(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
