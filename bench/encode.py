"""Encoding from JPEG files through our pipeline, against the bare model on ready tensors.

    python bench/encode.py                # ViT-B/32 on the CPU and, where there is a GPU, ViT-L/14 on it
    python bench/encode.py --repeats 3 --images 320    # a quick look at the CPU

Weights are random: speed does not depend on them. Each repeat times, one after the other, so that all meet
the same load of the machine: *bare*, the model on normalised tensors that already lie on its device, features
fetched; *pipeline*, `embed_images` from files (reading, decoding, preprocessing, encoding, gathering) without
a store; *decoding*, the pipeline's own reading with no model behind it. The first repeat warms up and is not
counted. A pipeline can be no faster than the slower of its two halves: the last column names that one.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmret.backbones.openclip import OpenClipBackbone, build_model
from mmret.backbones.openclip_specs import model_config
from mmret.backbones.registry import resolve
from mmret.data.images import FolderImages
from mmret.embedding import embed_images, pixel_batches

WIDTH, HEIGHT = 640, 480
DISTINCT = 512


@dataclass
class Case:
    """One row of the table: a backbone somewhere, a number of images, and the seconds measured."""

    name: str
    device: str
    precision: str
    images: int
    batch: int
    bare: list[float] = field(default_factory=list)
    pipeline: list[float] = field(default_factory=list)
    decoding: list[float] = field(default_factory=list)


CASES = [
    Case("clip-vit-b-32", "cpu", "fp32", 512, 64),
    Case("clip-vit-l-14", "cuda", "fp32", 4096, 128),
    Case("clip-vit-l-14", "cuda", "bf16", 16384, 256),
]


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


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(case: Case, images: FolderImages, repeats: int) -> None:
    backbone = random_backbone(case)
    ids = images.ids[: case.images]
    pixels = torch.stack([backbone.transform(images.read(id)) for id in ids[: case.batch]])
    ready = pixels.to(backbone.device)
    for repeat in range(repeats + 1):
        bare = seconds(lambda: run_bare(backbone, ready, case.images // case.batch))
        through = seconds(lambda: embed_images(backbone, images, ids, batch_size=case.batch, progress=False))
        decoding = seconds(lambda: sum(1 for _ in pixel_batches(backbone, images, ids, case.batch)))
        if repeat:
            case.bare.append(bare)
            case.pipeline.append(through)
            case.decoding.append(decoding)


def span(values: Sequence[float], digits: int) -> str:
    """Median and range."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def row(case: Case) -> str:
    head = f"| {case.name} {case.precision} | {case.device} | {case.images} |"
    if not case.bare:
        return f"{head} not run | | | | |"
    rates = [[case.images / t for t in times] for times in (case.bare, case.pipeline, case.decoding)]
    ratios = [bare / through for bare, through in zip(case.bare, case.pipeline, strict=True)]
    limit = "decoding" if statistics.median(rates[2]) < statistics.median(rates[0]) else "the model"
    cells = [*(span(rate, 1) for rate in rates), span(ratios, 3), limit]
    return f"{head} {' | '.join(cells)} |"


def decode_cost(images: FolderImages) -> str:
    """What one image costs on one core before it reaches the model."""
    sample = images.ids[:64]
    reading = statistics.median(seconds(partial(images.read, id)) for id in sample)
    size = statistics.mean((images.root / id).stat().st_size for id in sample)
    return f"{WIDTH} × {HEIGHT} JPEG of {size / 1000:.0f} kB: {1000 * reading:.1f} ms to decode on one core"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--images", type=int, help="how many images a case encodes at most")
    options = parser.parse_args()
    for case in CASES:
        case.images = min(case.images, options.images or case.images)
    runnable = [case for case in CASES if case.device == "cpu" or torch.cuda.is_available()]
    with tempfile.TemporaryDirectory() as folder:
        images = write_photos(Path(folder), max(case.images for case in runnable))
        for case in runnable:
            measure(case, images, options.repeats)
        print(f"{os.cpu_count()} cores, {torch.get_num_threads()} threads; {decode_cost(images)}; images/s:")
        print("\n| backbone | device | images | bare | pipeline | decoding alone | pipeline / bare | limit |")
        print("|---|---|---|---|---|---|---|---|")
        for case in CASES:
            print(row(case))


if __name__ == "__main__":
    main()
