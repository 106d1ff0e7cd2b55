"""Textual inversion of many images at once, against one image at a time.

    python bench/oti.py                        # ViT-B/32 on the CPU; on a GPU where there is one
    python bench/oti.py --repeats 3 --batch 4 --steps 3   # a quick look

Weights, images and phrases are random: speed does not depend on them. Each repeat inverts the same images in one
batch and then one by one, so that both meet the same load of the machine; the first repeat warms up and is not
counted. A step reads two prompts an image, shortened to their longest. The ratio is that of the medians.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch

from mmret.backbones.openclip import OpenClipBackbone, build_model
from mmret.backbones.openclip_specs import model_config
from mmret.backbones.registry import resolve
from mmret.data.miniature import concept_phrases
from mmret.inversion import OTI, ConceptBook, ConceptPhrases


def random_backbone(name: str, device: str) -> OpenClipBackbone:
    torch.manual_seed(0)
    spec = resolve(name)
    return OpenClipBackbone(spec, build_model(model_config(spec))).to(device).freeze()


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(
    backbone: OpenClipBackbone, oti: OTI, batch: int, repeats: int
) -> tuple[list[float], list[float]]:
    """Seconds of each repeat, in one batch and one by one."""
    phrases = dict(list(concept_phrases().items())[:16])
    book = ConceptBook(backbone, ConceptPhrases(phrases), oti.templates[:1])
    ids, features = [str(row) for row in range(batch)], torch.randn(batch, backbone.spec.width)
    together, apart = [], []
    for repeat in range(repeats + 1):
        batched = seconds(lambda: oti(backbone, ids, features, book))
        single = seconds(
            lambda: [oti(backbone, ids[r : r + 1], features[r : r + 1], book) for r in range(batch)]
        )
        if repeat:
            together.append(batched)
            apart.append(single)
    return together, apart


def span(values: Sequence[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="clip-vit-b-32")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    backbone = random_backbone(options.backbone, device)
    together, apart = measure(backbone, OTI(steps=options.steps), options.batch, options.repeats)
    ratio = statistics.median(apart) / statistics.median(together)
    print("| backbone | device | images | steps | in one batch, s | one by one, s | faster |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {options.backbone} | {device} | {options.batch} | {options.steps} | {span(together)} | {span(apart)} "
        f"| {ratio:.2f}× |"
    )


if __name__ == "__main__":
    main()
