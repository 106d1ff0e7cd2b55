"""Textual inversion of many images at once, against one image at a time: a Markdown table on standard output.

    python bench/oti.py                        # ViT-B/32 on the CPU, some minutes; on a GPU where there is one
    python bench/oti.py --quick                # few images and steps, a look

Weights, images and phrases are random: speed does not depend on them. Each repeat inverts the same images in one
batch and one by one, so that both meet the same load of the machine; one batch warms up before. A step reads two
prompts an image, shortened to their longest. The ratio is taken within the repeats.
"""

import argparse

import torch
from measuring import interleaved, machine, spread, table_head, table_row

from mmret.backbones.openclip import OpenClipBackbone, build_model
from mmret.backbones.openclip_specs import model_config
from mmret.backbones.registry import resolve
from mmret.data.miniature import concept_phrases
from mmret.inversion import OTI, ConceptBook, ConceptPhrases

TOGETHER, APART = "in one batch", "one by one"


def random_backbone(name: str, device: str) -> OpenClipBackbone:
    """The architecture of a named backbone with random weights."""
    torch.manual_seed(0)
    spec = resolve(name)
    return OpenClipBackbone(spec, build_model(model_config(spec))).to(device).freeze()


def measure(backbone: OpenClipBackbone, oti: OTI, batch: int, repeats: int) -> str:
    """The two times and their ratio, as cells of the table."""
    phrases = dict(list(concept_phrases().items())[:16])
    book = ConceptBook(backbone, ConceptPhrases(phrases), oti.templates[:1])
    ids, features = [str(row) for row in range(batch)], torch.randn(batch, backbone.spec.width)

    def invert(*rows: slice) -> None:
        for part in rows:
            oti(backbone, ids[part], features[part], book)

    invert(slice(0, batch))
    works = {
        TOGETHER: lambda: invert(slice(0, batch)),
        APART: lambda: invert(*(slice(row, row + 1) for row in range(batch))),
    }
    times = interleaved(works, repeats, "OTI")
    together, apart = times[TOGETHER], times[APART]
    return table_row(
        backbone.spec.name,
        backbone.device,
        batch,
        oti.steps,
        spread(together, " s"),
        spread(apart, " s"),
        spread(apart / together, "×"),
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="clip-vit-b-32")
    parser.add_argument("--quick", action="store_true", help="4 images, 3 steps")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    backbone = random_backbone(options.backbone, device)
    batch, steps = (4, 3) if options.quick else (options.batch, options.steps)
    print(table_head("backbone", "device", "images", "steps", TOGETHER, APART, "faster"))
    print(measure(backbone, OTI(steps=steps), batch, options.repeats))
    print(f"\n{machine('torch')}")


if __name__ == "__main__":
    main()
