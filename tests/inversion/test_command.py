import json
from dataclasses import fields
from pathlib import Path

import pytest

from mmret.backbones import load_backbone
from mmret.cli import main
from mmret.composition import InvertedWord, PseudoWords
from mmret.corridor import compose
from mmret.data import load_benchmark
from mmret.encoded_benchmark import encode_benchmark
from mmret.inversion import OTI


def test_a_benchmarks_references_are_inverted_and_composed(
    backbone_folder: Path, world_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    phrases, out = tmp_path / "phrases.json", tmp_path / "words.safetensors"
    phrases.write_text(json.dumps({"square": ["a photo of a square"]}))
    words = ["oti", f"--benchmark=folder:{world_folder}", f"--backbone={backbone_folder}", f"--out={out}",
             f"--phrases={phrases}", "--steps=2", "--device=cpu"]  # fmt: skip
    assert main(words) == 0
    assert "3 pseudo-words in" in capsys.readouterr().out
    assert PseudoWords.load(out).ids == ("black.png", "white.png", "yellow.png")
    backbone = load_backbone(str(backbone_folder))
    encoded = encode_benchmark(backbone, load_benchmark(f"folder:{world_folder}", "test"))
    features = compose(backbone, encoded, InvertedWord(out))
    assert features.composed_text.shape == (3, 16)  # type: ignore[union-attr]


def test_the_help_tells_every_setting_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["oti", "--help"])
    told = " ".join(capsys.readouterr().out.partition("\nOTI:")[2].split())
    assert "--steps STEPS of the optimizer, AdamW (350)" in told
    assert "weight of the phrase term; 0: no phrases are needed (0.5)" in told
    for setting in fields(OTI):
        option = f"--{setting.name.replace('_', '-')} "
        assert (option in told) == (setting.name != "templates")
        assert setting.name == "templates" or f"({setting.default})" in told.partition(option)[2]


def test_images_to_train_on_are_inverted(backbone_folder: Path, world_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "words.safetensors"
    words = ["oti", f"--images=folder:{world_folder}", f"--backbone={backbone_folder}", f"--out={out}",
             "--lambda-gpt=0", "--steps=2", "--count=2", "--device=cpu"]  # fmt: skip
    assert main(words) == 0
    assert PseudoWords.load(out).ids == ("green.png", "red.png")


def test_phrases_that_are_needed_and_missing_are_asked_for(
    backbone_folder: Path, world_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["oti", f"--images=folder:{world_folder}", f"--backbone={backbone_folder}",
             f"--out={tmp_path / 'words.safetensors'}", "--device=cpu"]  # fmt: skip
    assert main(words) == 2
    assert "lambda_gpt 0 to go without" in capsys.readouterr().err
