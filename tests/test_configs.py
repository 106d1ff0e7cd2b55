"""Every configuration that ships: trainings are run for one batch, tables are read.

A configuration without an entry here fails, so that none rots.
"""

import json
import re
from collections.abc import Callable
from functools import wraps
from itertools import product, takewhile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from mmret import methods
from mmret.backbones.pretraining import save_backbone, trainable_backbone
from mmret.cli import main
from mmret.composition import MappingNetwork, save_phi
from mmret.data.records import write_json_lines
from mmret.tables.load import load_spec
from tests.backbones.tiny_pages import FAMILIES
from tests.methods.toy_data import write_backbone

MODULES = tuple(getattr(methods, name) for name in methods.__all__)
STEPS = ("training_step", "validation_step", "test_step")
CONFIGS = Path(__file__).parents[1] / "configs"
TABLES = sorted(CONFIGS.glob("tables/**/*.yaml"))
BASES = sorted(CONFIGS.rglob("base.yaml"))
TRAININGS = sorted(set(CONFIGS.rglob("*.yaml")) - set(TABLES) - set(BASES))


def write_world() -> None:
    """In the working directory, what the configurations' commands build one after the other, in small.

    That is data/emoji with six images, captions and one test query, an untrained backbone and an untrained φ.
    """
    images = Path("data/emoji/images")
    images.mkdir(parents=True)
    splits = {
        "red": "test",
        "blue": "test",
        "green": "train",
        "cyan": "val",
        "pink": "train",
        "gold": "train",
    }
    for colour in splits:
        Image.new("RGB", (64, 64), colour).save(images / f"{colour}.png")
    captions = [{"image": f"{c}.png", "caption": f"all {c}", "split": split} for c, split in splits.items()]
    query = {
        "id": "q",
        "reference": "red.png",
        "text": "make it blue",
        "targets": ["blue.png"],
        "split": "test",
    }
    write_json_lines(Path("data/emoji/captions.jsonl"), captions)
    write_json_lines(Path("data/emoji/queries.jsonl"), [query])
    Path("data/phrases.json").write_text(
        json.dumps({"red": ["a red ring"], "blue": ["all blue", "a blue one"]})
    )
    pages = [{"query": f"what is {c}?", "page": f"emoji/images/{c}.png"} for c in splits]
    write_json_lines(Path("data/pairs.jsonl"), pages)
    backbone = trainable_backbone("miniature-clip", from_scratch=True)
    save_backbone(backbone, Path("runs/emoji/clip/backbone"))
    triplets = [
        {"caption": f"all {old}", "edit": f"make it {new}", "output": f"all {new} of {old}"}
        for old in splits
        for new in splits
        if old != new
    ]
    write_json_lines(Path("data/emoji/triplets.jsonl"), triplets)
    for study in ("emoji", "miniature"):
        Path(f"runs/{study}/lincir").mkdir(parents=True)
        phi = MappingNetwork(backbone.spec.width, 8, backbone.token_width)
        save_phi(phi, f"runs/{study}/lincir/phi.safetensors")


class Trial(NamedTuple):
    """How a configuration is run in miniature: the subcommand, and options that make it tiny."""

    command: str
    options: list[str]


SMALL = ["--data.held_out=2", "--data.batch_size=2"]
SUBSTITUTES = [
    *SMALL,
    "--model.backbone=runs/emoji/clip/backbone",
    "--data.source=folder:data/emoji",
    "--trainer.precision=32-true",
]
"""For the papers' configurations: a small backbone and a small folder stand in for theirs."""
ONE_DEVICE = ["--trainer.precision=32-true", "--trainer.devices=1", "--trainer.strategy=auto"]
INVERSION = ["--data.inversion.steps=2"]
RTD_SUBSTITUTES = [
    *SMALL,
    "--model.backbone=runs/emoji/clip/backbone",
    "--model.phi=runs/emoji/lincir/phi.safetensors",
    "--data.source=data/emoji/triplets.jsonl",
    *ONE_DEVICE,
]
FEW_PAGES = [f"--data.{stage}=4" for stage in ("layers", "words", "lists", "blocks", "texts", "pages")]
DSE_SUBSTITUTES = [
    *SMALL,
    *ONE_DEVICE,
    "--model.backbone=runs/tiny-qwen2-vl",
    "--data.source=pairs:data/pairs.jsonl",
    "--data.num_workers=0",
]
WIDTHS = "--model.matryoshka=[16,4]"
TRIALS = {
    "dse/clip-vit-l-14-336-wiki-ss.yaml": Trial("fit", [*DSE_SUBSTITUTES, "--model.backbone=runs/tiny-clip"]),
    "dse/miniature-outlines.yaml": Trial(
        "fit", [*DSE_SUBSTITUTES, "--model.backbone=runs/emoji/clip/backbone"]
    ),
    "dse/phi3-slidevqa.yaml": Trial("fit", DSE_SUBSTITUTES),
    "dse/phi3-wiki-ss.yaml": Trial("fit", DSE_SUBSTITUTES),
    "dse/qwen2-vl-7b-wiki-ss-fsdp.yaml": Trial("fit", [*DSE_SUBSTITUTES, WIDTHS]),
    "dse/qwen2-vl-wiki-ss.yaml": Trial("fit", [*DSE_SUBSTITUTES, WIDTHS]),
    "emoji/clip.yaml": Trial("fit", [*SMALL, "--data.num_workers=0"]),
    "emoji/lincir.yaml": Trial("fit", SMALL),
    "emoji/rtd.yaml": Trial("fit", SMALL),
    "emoji/zero_shot.yaml": Trial("test", []),
    "miniature/clip.yaml": Trial("fit", [*SMALL, "--data.pairs=8", "--data.num_workers=0"]),
    "miniature/combiner.yaml": Trial("fit", [*SMALL, "--data.pairs=40", "--data.triplets=4"]),
    "miniature/lincir.yaml": Trial("fit", [*SMALL, "--data.captions=8"]),
    "miniature/pages.yaml": Trial("fit", [*SMALL, "--data.num_workers=0", *FEW_PAGES]),
    "miniature/pages_tuned.yaml": Trial("fit", [*SMALL, "--data.num_workers=0", "--data.pages=4"]),
    "miniature/pic2word.yaml": Trial("fit", [*SMALL, "--data.images=8"]),
    "miniature/rtd.yaml": Trial("fit", [*SMALL, "--data.triplets=12"]),
    "miniature/searle.yaml": Trial("fit", [*SMALL, *INVERSION, "--data.images=8"]),
    "pic2word/clip-vit-l-14.yaml": Trial("fit", [*SUBSTITUTES, "--data.num_workers=0"]),
    "searle/clip-vit-b-32.yaml": Trial("fit", [*SUBSTITUTES, *INVERSION]),
    "searle/clip-vit-l-14.yaml": Trial("fit", [*SUBSTITUTES, *INVERSION]),
    "lincir/clip-vit-l-14.yaml": Trial("fit", SUBSTITUTES),
    "lincir/vit-bigg-14-laion2b-s39b-b160k.yaml": Trial("fit", SUBSTITUTES),
    "lincir/vit-h-14-laion2b-s32b-b79k.yaml": Trial("fit", SUBSTITUTES),
    "miniature/zero_shot.yaml": Trial("test", ["--data.benchmark=folder:data/emoji"]),
    **{
        f"rtd/{method}-{backbone}.yaml": Trial("fit", RTD_SUBSTITUTES)
        for method in ("lincir", "pic2word", "searle")
        for backbone in ("clip-vit-b-32", "clip-vit-l-14")
    },
    "rtd/lincir-vit-bigg-14-laion2b-s39b-b160k.yaml": Trial("fit", RTD_SUBSTITUTES),
    "rtd/lincir-vit-h-14-laion2b-s32b-b79k.yaml": Trial("fit", RTD_SUBSTITUTES),
}


def name(path: Path) -> str:
    return path.relative_to(CONFIGS).as_posix()


def test_every_config_has_a_trial() -> None:
    assert [name(path) for path in TRAININGS] == sorted(TRIALS)


def options(path: Path) -> list[str]:
    """The configurations of a training: its own, upon the base of its folder where there is one."""
    base = path.with_name("base.yaml")
    return [
        f"--config {each.relative_to(CONFIGS.parent).as_posix()}" for each in (base, path) if each.is_file()
    ]


HEADER = ["Papers?|Method", "Commands?", "Data", "[Tt]ime", "[Ss]core|Expected"]


@pytest.mark.parametrize("path", [*TRAININGS, *BASES, *TABLES], ids=name)
def test_a_config_opens_with_its_source_command_data_cost_and_score(path: Path) -> None:
    lines = takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    header = "\n".join(lines)
    assert [
        words for words in HEADER if not re.search(rf"(^# |\. |and )({words})\b", header, re.MULTILINE)
    ] == []
    assert path.relative_to(CONFIGS.parent).as_posix() in header
    assert path not in TRAININGS or " ".join(options(path)) in header


@pytest.mark.parametrize("path", [*TRAININGS, *BASES], ids=name)
def test_a_config_names_no_place_but_its_root(path: Path) -> None:
    """Else another root from the command line, or another seed of a table, would write into this one's folder."""
    assert not re.findall(r"dirpath|save_dir", path.read_text(encoding="utf-8"))


def count_batches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the steps that the modules are about to take, in a list that grows as they do."""
    taken: list[str] = []
    for module, step in product(MODULES, STEPS):
        if step in vars(module):
            monkeypatch.setattr(module, step, recorded(getattr(module, step), taken))
    return taken


def recorded(step: Callable[..., Any], taken: list[str]) -> Callable[..., Any]:
    """The step, which leaves its name behind."""

    @wraps(step)
    def run(*args: Any, **kwargs: Any) -> Any:
        taken.append(step.__name__)
        return step(*args, **kwargs)

    return run


@pytest.mark.parametrize("path", TRAININGS, ids=name)
def test_a_config_runs_for_one_batch(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    batches = count_batches(monkeypatch)
    trial = TRIALS[name(path)]
    write_world()
    if "tiny-qwen2-vl" in " ".join(trial.options):
        FAMILIES["qwen2_vl"](Path("runs/tiny-qwen2-vl"))
        write_backbone(Path("runs/tiny-clip"))
    configs = " ".join(options(path)).replace("configs/", f"{CONFIGS}/").split()
    words = [trial.command, *configs, *trial.options]
    assert main([*words, "--trainer.fast_dev_run=true", "--trainer.accelerator=cpu"]) == 0
    # One batch of each loader: a training's or validation's one, a test's images and queries.
    assert batches and set(batches) <= set(STEPS)
    assert len(batches) == 2


@pytest.mark.parametrize("path", TABLES, ids=name)
def test_a_table_is_read(path: Path) -> None:
    spec = load_spec(path)
    assert spec.name == path.stem
    assert spec.rows
