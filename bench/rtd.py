"""A step of RTD through the Trainer, against a plain loop with the same forwards, loss and optimizer: a Markdown table.

    python bench/rtd.py                # the miniature CLIP, batches of 96, on the CPU: a minute or two
    python bench/rtd.py --quick        # few steps, a look

Both see the same triplets. *Plain* is a loop in which everything is written out: encode captions and prompts, the loss,
backward, step. Each repeat runs both, one after the other; a ratio is taken within the repeats. Peak memory is what a
process of its own grows by in two steps of 1,536 triplets; the third row is the Trainer with the gradient cache, in
chunks of 32 queries.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from measuring import interleaved, machine, spread, table_head, table_row

from mmret.backbones import load_backbone
from mmret.backbones.attention import training_attention
from mmret.backbones.prompt import fill
from mmret.backbones.text_tower import trainable_text_tower
from mmret.composition.phi import MappingNetwork
from mmret.composition.phi_files import load_phi, save_phi
from mmret.data.miniature import text_triplets
from mmret.losses import nt_xent
from mmret.methods import RTD

BATCH, LARGE_BATCH = 96, 1_536
TRAINER, CACHED, PLAIN = "Trainer", "Trainer, chunks of 32", "plain loop"


def batches(steps: int, size: int = BATCH) -> list[dict[str, list[str]]]:
    found = text_triplets(steps * size)
    parts = [found[start : start + size] for start in range(0, len(found), size)]
    return [
        {
            "references": [item.reference_caption for item in part],
            "conditions": [item.conditioning_caption for item in part],
            "targets": [item.target_caption for item in part],
        }
        for part in parts
    ]


def with_trainer(phi: str, data: list[dict[str, list[str]]], chunk_size: int | None = None) -> None:
    """`mmret fit` without its files: no checkpoint, no logger, no bar."""
    torch.manual_seed(0)
    optimizer = partial(torch.optim.AdamW, lr=1e-5)
    module = RTD("miniature-clip", phi, optimizer=optimizer, cached_captions=0, chunk_size=chunk_size)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False, default_root_dir=folder, fast_dev_run=False,
        )  # fmt: skip
        trainer.fit(module, train_dataloaders=torch.utils.data.DataLoader(data, batch_size=None))


def with_plain_loop(path: str, data: list[dict[str, list[str]]]) -> None:
    torch.manual_seed(0)
    frozen, phi = load_backbone("miniature-clip"), load_phi(path)
    tower = trainable_text_tower(frozen)
    learning = [parameter for parameter in tower.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-5)
    for batch in data:
        with torch.no_grad():
            read = frozen.encode_text(frozen.tokenize(batch["references"]))
            wanted = frozen.encode_text(frozen.tokenize(batch["targets"]))
            noise = 0.5 * torch.rand(len(read), 1) * torch.randn_like(read)
            words = phi(read + noise).repeat(2, 1)
        prompts = [fill("a photo of {word} that {text}", text) for text in batch["conditions"]]
        prompts += [fill("a photo of {word}")] * len(read)
        with training_attention(torch.device("cpu")):
            queries = tower.encode_prompts(tower.tokenize_prompts(prompts), words)
        loss = nt_xent(torch.cat([wanted, read]), queries, 0.07)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def works(phi: str, data: list[dict[str, list[str]]]) -> dict[str, Callable[[], None]]:
    return {
        TRAINER: lambda: with_trainer(phi, data),
        CACHED: lambda: with_trainer(phi, data, chunk_size=32),
        PLAIN: lambda: with_plain_loop(phi, data),
    }


def peak_mb(name: str) -> float:
    """What a fresh process grows by, over its peak before, in MB."""
    command = [sys.executable, __file__, "--memory", name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="5 steps instead of 40")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", choices=(TRAINER, CACHED, PLAIN), help=argparse.SUPPRESS)
    options = parser.parse_args()
    data = batches(2, LARGE_BATCH) if options.memory else batches(5 if options.quick else 40)
    with tempfile.TemporaryDirectory() as folder:
        phi = str(Path(folder) / "phi.safetensors")
        save_phi(MappingNetwork(128, 512, 128, backbone="miniature-clip"), phi)
        compared = works(phi, data)
        if options.memory:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            compared[options.memory]()
            print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
            return
        compared[TRAINER]()  # warms up
        times = interleaved(compared, options.repeats, "RTD")
    print(table_head("what", "s a step", "against the plain loop", "growth, MB"))
    for name, taken in times.items():
        ratio = spread(taken / times[PLAIN], "×")
        print(table_row(name, spread(taken / len(data)), ratio, f"{peak_mb(name):,.0f}"))
    print(f"\nbatch {BATCH}, {len(data)} steps; {machine('torch', 'lightning')}")


if __name__ == "__main__":
    main()
