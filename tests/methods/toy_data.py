"""A tiny open_clip model in a folder, and tiny data modules, for the Lightning modules."""

import json
from pathlib import Path

import torch
from PIL import Image

from mmret.backbones.openclip_specs import CONFIG
from mmret.backbones.pretraining import save_backbone, trainable_backbone

VISION = {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16}
TEXT = {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
COLOURS = ("red", "green", "blue", "white", "black", "yellow")


def write_backbone(folder: Path, **vision: float) -> Path:
    """A random CLIP of 16 features, saved as a folder; `vision` adds to what its image tower is."""
    folder.mkdir(parents=True)
    description = {
        "model_cfg": {"embed_dim": 16, "vision_cfg": {**VISION, **vision}, "text_cfg": TEXT},
        "preprocess_cfg": {},
    }
    (folder / CONFIG).write_text(json.dumps(description))
    torch.manual_seed(0)
    save_backbone(trainable_backbone(str(folder), from_scratch=True), folder, torch.float32)
    return folder


def write_world(folder: Path, trained: int = 3) -> Path:
    """Six plain images with captions, the first `trained` to train on, and three composed queries of the split test."""
    (folder / "images").mkdir(parents=True)
    for colour in COLOURS:
        Image.new("RGB", (40, 32), colour).save(folder / "images" / f"{colour}.png")
    captions = [
        {
            "image": f"{colour}.png",
            "caption": f"a {colour} square",
            "split": "train" if row < trained else "test",
        }
        for row, colour in enumerate(COLOURS)
    ]
    pairs = (("white", "black"), ("black", "yellow"), ("yellow", "white"))
    queries = [
        {
            "id": f"q{row}",
            "reference": f"{old}.png",
            "text": f"make it {new}",
            "targets": [f"{new}.png"],
            "split": "test",
        }
        for row, (old, new) in enumerate(pairs)
    ]
    for name, records in (("captions.jsonl", captions), ("queries.jsonl", queries)):
        (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder
