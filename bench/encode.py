"""Encoding from JPEG files through our pipeline, against the bare model on ready tensors: a Markdown table.

    python bench/encode.py             # ViT-B/32 on the CPU and, where there is a GPU, ViT-L/14 on it
    python bench/encode.py --quick     # 64 images, a look

Weights are random: speed does not depend on them. Interleaved in each repeat: *bare*, the model on normalised
tensors that already lie on its device, features fetched; *pipeline*, `embed_images` from files (reading,
decoding, preprocessing, encoding, gathering) without a store; *decoding*, the pipeline's own reading with no
model behind it. Rates are medians with their range, the ratio is the median of the ratios within the repeats.
Where decoding alone is slower than the bare model, it is the limit that no pipeline passes: the last column.
"""

import argparse
import os
import statistics
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from measuring import Seconds, interleaved, machine, seconds, spread, table_head, table_row
from PIL import Image
from torch import Tensor

from mmret.backbones.openclip import OpenClipBackbone, build_model
from mmret.backbones.openclip_specs import model_config
from mmret.backbones.registry import resolve
from mmret.data.images import FolderImages
from mmret.embedding import embed_images
from mmret.pixel_batches import pixel_batches

WIDTH, HEIGHT = 640, 480
DISTINCT = 512


@dataclass(frozen=True)
class Case:
    """One row of the table: a backbone somewhere, and a number of images."""

    name: str
    device: str
    precision: str
    images: int
    batch: int


CASES = [
    Case("clip-vit-b-32", "cpu", "fp32", 256, 64),
    Case("clip-vit-l-14", "cuda", "fp32", 4096, 128),
    Case("clip-vit-l-14", "cuda", "bf16", 16384, 256),
]
QUICK_IMAGES = 64


def photo(rng: np.random.Generator) -> Image.Image:
    """Something with a photograph's amount of detail: noise whose power falls with frequency."""
    rows, columns = np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None]
    falloff = 1 / np.maximum(np.hypot(rows, columns), 1 / WIDTH) ** 1.1
    waves = np.fft.irfft2(falloff * np.fft.rfft2(rng.standard_normal((3, HEIGHT, WIDTH))), (HEIGHT, WIDTH))
    levels = np.clip(128 + 50 * waves / waves.std(), 0, 255).astype(np.uint8)
    return Image.fromarray(levels.transpose(1, 2, 0))


def write_photos(folder: Path, count: int) -> FolderImages:
    """Write `count` names for at most `DISTINCT` JPEG files (the rest are hard links)."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number:06d}.jpg"
        if number < DISTINCT:
            photo(rng).save(path, quality=90)
        else:
            os.link(folder / f"{number % DISTINCT:06d}.jpg", path)
    return FolderImages(folder)


def random_backbone(case: Case) -> OpenClipBackbone:
    spec = resolve(case.name)
    model = build_model(model_config(spec))
    return OpenClipBackbone(spec, model, case.precision).to(case.device).freeze()


@torch.no_grad()
def run_bare(backbone: OpenClipBackbone, ready: Tensor, batches: int) -> None:
    """Encode one ready batch again and again; the device works on while features are fetched."""
    waiting: Tensor | None = None
    for _ in range(batches):
        features = backbone.encode_images(ready)
        if waiting is not None:
            waiting.cpu()
        waiting = features
    if waiting is not None:
        waiting.cpu()


def measured(case: Case, images: FolderImages, repeats: int) -> dict[str, Seconds]:
    """Seconds of bare, pipeline and decoding in each repeat, after one batch that warms up."""
    backbone = random_backbone(case)
    ids = images.ids[: case.images]
    pixels = torch.stack([backbone.transform(images.read(id)) for id in ids[: case.batch]])
    ready = pixels.to(backbone.device)
    run_bare(backbone, ready, 1)
    return interleaved(
        {
            "bare": lambda: run_bare(backbone, ready, case.images // case.batch),
            "pipeline": lambda: embed_images(backbone, images, ids, batch_size=case.batch, progress=False),
            "decoding": lambda: sum(1 for _ in pixel_batches(backbone, images, ids, case.batch)),
        },
        repeats,
        f"{case.name} {case.precision} on {case.device}",
    )


def row(case: Case, times: dict[str, Seconds]) -> str:
    """Images a second, and the pipeline's share of the bare model's rate."""
    rates = {name: case.images / taken for name, taken in times.items()}
    slower = np.median(rates["decoding"]) < np.median(rates["bare"])
    cells = [spread(rates[name]) for name in ("bare", "pipeline", "decoding")]
    ratio = spread(times["bare"] / times["pipeline"])
    head = (f"{case.name} {case.precision}", case.device, case.images)
    return table_row(*head, *cells, ratio, "decoding" if slower else "the model")


def decode_cost(images: FolderImages) -> str:
    """What one image costs on one core before it reaches the model."""
    sample = images.ids[:64]
    reading = statistics.median(seconds(partial(images.read, id)) for id in sample)
    size = statistics.mean((images.root / id).stat().st_size for id in sample)
    return f"{WIDTH} × {HEIGHT} JPEG of {size / 1000:.0f} kB: {1000 * reading:.1f} ms to decode on one core"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_IMAGES} images, for a look")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    cases = [case for case in CASES if case.device == "cpu" or torch.cuda.is_available()]
    if options.quick:
        cases = [replace(case, images=QUICK_IMAGES, batch=QUICK_IMAGES // 4) for case in cases]
    with tempfile.TemporaryDirectory() as folder:
        images = write_photos(Path(folder), max(case.images for case in cases))
        print(f"{machine('torch', 'open_clip_torch', 'pillow')}, {torch.get_num_threads()} threads;")
        print(f"{options.repeats} interleaved repeats, images/s, median (range); {decode_cost(images)}.\n")
        columns = ["backbone", "device", "images", "bare", "pipeline", "decoding alone", "pipeline ÷ bare"]
        print(table_head(*columns, "limit"))
        for case in cases:
            print(row(case, measured(case, images, options.repeats)), flush=True)
    if len(cases) < len(CASES):
        print("\nThe cases on a GPU were not run: torch sees none here.")


if __name__ == "__main__":
    main()
