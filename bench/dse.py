"""Memory of DSE's gradient cache: a plain step of a batch against a cached step of one 16 times as large.

    python bench/dse.py                # batches of 16 and 256 on the CPU: minutes
    python bench/dse.py --quick        # batches of 4 and 64, a look

Each step is one of the Trainer, in a process of its own; what counts is by how much it grows from before the model and
the batch are made. Freed memory goes back to the system at once, in both, so that what is measured is what is held. The
architecture is a CLIP with a ViT-Ti/16 (336 × 336, 442 tokens, 12 layers of 192), from random weights. The goal is that
16 times the batch takes at most 1.1 times the memory.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from measuring import machine, seconds, table_head, table_row
from torch.utils.data import DataLoader

from mmret.backbones.openclip_specs import CONFIG
from mmret.data.batches import QueryPageBatch
from mmret.methods import DocumentScreenshotEmbedding

TIMES = 16
SIDE = 336
MODEL = {
    "embed_dim": 192,
    "vision_cfg": {"image_size": SIDE, "patch_size": 16, "width": 192, "layers": 12, "head_width": 64},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 192, "heads": 3, "layers": 4},
}


def batch_of(size: int) -> QueryPageBatch:
    generator = torch.Generator().manual_seed(0)
    names = [str(row) for row in range(size)]
    return {
        "query_ids": names,
        "queries": [f"what does page {name} say of the amount that is due, and to whom?" for name in names],
        "pages": torch.randint(0, 256, (size, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator),
        "page_ids": names,
        "relevant": [frozenset({name}) for name in names],
    }


def measured(size: int, chunk_size: int | None) -> tuple[float, float]:
    """MB by which this process grows in a step, and its seconds."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    torch.manual_seed(0)
    batch = batch_of(size)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / CONFIG).write_text(json.dumps({"model_cfg": MODEL, "preprocess_cfg": {}}))
        optimizer = partial(torch.optim.AdamW, lr=1e-4)
        module = DocumentScreenshotEmbedding(folder, optimizer, from_scratch=True, chunk_size=chunk_size)
        module.configure_model()
        trainer = Trainer(
            max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False, default_root_dir=folder, limit_val_batches=0,
        )  # fmt: skip
        taken = seconds(lambda: trainer.fit(module, DataLoader([batch], batch_size=None)))
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, taken


def in_a_fresh_process(size: int, chunk_size: int | None) -> tuple[float, float]:
    command = [sys.executable, __file__, "--measure", str(size), str(chunk_size or 0)]
    surroundings = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    found = subprocess.run(
        command, check=True, capture_output=True, text=True, env=surroundings
    ).stdout.split()
    return float(found[-2]), float(found[-1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="batches of 4 and 64 instead of 16 and 256")
    parser.add_argument("--measure", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        size, chunk_size = options.measure
        print(*measured(size, chunk_size or None))
        return
    size = 4 if options.quick else 16
    print(
        table_head("step", "queries and pages", "at a time", "growth, MB", "against plain", "s"), flush=True
    )
    plain = None
    for name, many, chunk in (("plain", size, None), ("gradient cache", TIMES * size, size)):
        growth, taken = in_a_fresh_process(many, chunk)
        plain = plain or growth
        ratio = f"{growth / plain:.2f}×"
        print(table_row(name, many, chunk or many, f"{growth:,.0f}", ratio, f"{taken:.1f}"), flush=True)
    print(f"\none step each; {machine('torch', 'lightning', 'open_clip_torch')}")


if __name__ == "__main__":
    main()
