import json
from pathlib import Path

import pytest
import torch

from mmret.backbones import load_backbone
from mmret.backbones.base import Backbone
from mmret.composition.word_files import PseudoWords
from mmret.data.images import FolderImages
from mmret.errors import InputError
from mmret.inversion import OTI, ConceptPhrases, invert_images

SHORT = OTI(steps=2, lambda_gpt=0)


@pytest.fixture(scope="module")
def backbone(backbone_folder: Path) -> Backbone:
    return load_backbone(str(backbone_folder))


@pytest.fixture
def images(world_folder: Path) -> FolderImages:
    return FolderImages(world_folder / "images")


def test_words_lie_in_a_file_by_image_id(backbone: Backbone, images: FolderImages, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "words.safetensors"
    words = invert_images(backbone, images, path, oti=SHORT, batch_size=4, progress=False)
    read = PseudoWords.load(path)
    assert sorted(words.ids) == sorted(images.ids) == list(read.ids)
    assert read.fingerprint == backbone.fingerprint()
    assert torch.equal(read.rows(words.ids), words.words)
    assert [file.name for file in path.parent.iterdir()] == ["words.safetensors"]
    assert read.describe()["settings"] == {**SHORT.describe(), "phrases": None}


class KilledError(Exception):
    """Stands for the kill."""


def test_a_killed_run_goes_on_and_gives_the_same_words(
    backbone: Backbone, images: FolderImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = invert_images(backbone, images, tmp_path / "whole.safetensors", oti=SHORT, progress=False)
    inverted: list[str] = []
    run = OTI.__call__

    def counted(self: OTI, backbone: Backbone, ids: list[str], *rest: object) -> torch.Tensor:
        if len(inverted) >= 4 and not resumed:
            raise KilledError
        inverted.extend(ids)
        return run(self, backbone, ids, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(OTI, "__call__", counted)
    path, resumed = tmp_path / "words.safetensors", False
    with pytest.raises(KilledError):
        invert_images(backbone, images, path, oti=SHORT, batch_size=2, progress=False)
    assert not path.exists()
    resumed = True
    words = invert_images(backbone, images, path, oti=SHORT, batch_size=2, progress=False)
    assert sorted(inverted) == sorted(images.ids)
    torch.testing.assert_close(words.rows(whole.ids), whole.words, atol=1e-4, rtol=1e-3)


def test_a_file_grows_by_what_is_new_and_keeps_the_rest(
    backbone: Backbone, images: FolderImages, tmp_path: Path
) -> None:
    path = tmp_path / "words.safetensors"
    first = invert_images(backbone, images, path, images.ids[:2], oti=SHORT, progress=False)
    grown = invert_images(backbone, images, path, oti=SHORT, progress=False)
    assert len(grown) == len(images.ids)
    assert torch.equal(grown.rows(first.ids), first.words)


def test_other_settings_are_refused(backbone: Backbone, images: FolderImages, tmp_path: Path) -> None:
    path = tmp_path / "words.safetensors"
    invert_images(backbone, images, path, images.ids[:1], oti=SHORT, progress=False)
    with pytest.raises(
        InputError, match="another backbone, preprocessing, settings or phrases; give another file"
    ):
        invert_images(backbone, images, path, oti=OTI(steps=3, lambda_gpt=0), progress=False)
    (tmp_path / "torn.safetensors").write_bytes(b"no words")
    with pytest.raises(InputError, match="holds no pseudo-words of mmret oti"):
        PseudoWords.load(tmp_path / "torn.safetensors")


def test_phrases_are_read_from_json(tmp_path: Path) -> None:
    path = tmp_path / "phrases.json"
    path.write_text(json.dumps({"dog": ["a dog runs"], "cat": "the cat"}))
    assert ConceptPhrases.read(str(path)).phrases == {"dog": ("a dog runs",), "cat": ("the cat",)}
    path.write_text("[]")
    with pytest.raises(InputError, match="holds a list"):
        ConceptPhrases.read(str(path))
    miniature = ConceptPhrases.read("miniature")
    assert len(miniature.concepts) == 64
    assert len(set(miniature.phrases["red circle"])) > 8
