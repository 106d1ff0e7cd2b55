import json
import os
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmret.backbones import load_backbone, resolve
from mmret.backbones.checkpoints import find_weights, first_of, published_revision
from mmret.errors import InputError

WEIGHTS = "open_clip_model.safetensors"


@pytest.fixture
def folder(model_folder, tmp_path):
    return shutil.copytree(model_folder("clip"), tmp_path / "clip")


class Payload:
    """What a pickle must not be allowed to do: run a command while it is read."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


def pixels():
    return torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)


def test_a_folder_and_the_file_in_it_are_the_same_backbone(folder):
    by_folder, by_file = resolve(str(folder)), resolve(str(folder / WEIGHTS))
    assert by_folder.fingerprint() == by_file.fingerprint()
    assert (by_folder.architecture, by_folder.weights) == ("local", str(folder / WEIGHTS))
    assert (by_folder.mean, by_folder.std) == ((0.5,) * 3, (0.25,) * 3)


def test_the_revision_marks_weights_and_description(folder):
    before = resolve(str(folder)).revision
    moved = shutil.copytree(folder, folder.parent / "moved")
    assert resolve(str(moved)).revision == before
    tensors = load_file(folder / WEIGHTS)
    tensors["logit_scale"] += 1
    save_file(tensors, folder / WEIGHTS)
    changed = resolve(str(folder)).revision
    config = json.loads((moved / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["std"] = [0.5] * 3
    (moved / "open_clip_config.json").write_text(json.dumps(config))
    assert len({before, changed, resolve(str(moved)).revision}) == 3


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"epoch": 3, "state_dict": state},
        lambda state: {f"module.{key}": value for key, value in state.items()},
    ],
)
def test_a_tensor_only_pickle_is_read(folder, wrap):
    wanted = load_backbone(str(folder)).encode_images(pixels())
    torch.save(wrap(load_file(folder / WEIGHTS)), folder / "weights.pt")
    (folder / WEIGHTS).unlink()
    assert torch.equal(load_backbone(str(folder)).encode_images(pixels()), wanted)


def test_safetensors_come_before_pickles(folder):
    (folder / "a.pt").write_bytes(b"")
    assert find_weights(folder) == folder / WEIGHTS


def test_a_pickle_that_holds_more_is_refused_and_does_not_run(folder):
    (folder / WEIGHTS).unlink()
    trace = folder / "ran"
    with (folder / "weights.pt").open("wb") as file:
        pickle.dump(Payload(trace), file)
    with pytest.raises(InputError, match=r"weights\.pt is damaged or holds more than tensors"):
        load_backbone(str(folder))
    torch.save({"state_dict": {"x": Payload(trace)}}, folder / "weights.pt")
    with pytest.raises(InputError, match=r"weights\.pt is damaged or holds more than tensors"):
        load_backbone(str(folder))
    assert not trace.exists()


def test_a_whole_model_is_refused(folder):
    (folder / WEIGHTS).unlink()
    torch.save(torch.nn.Linear(2, 2), folder / "weights.pt")
    with pytest.raises(InputError, match="more than tensors"):
        load_backbone(str(folder))


def test_a_torchscript_archive_is_refused(folder):
    """OpenAI's own files are such: they hold code beside the weights."""
    (folder / WEIGHTS).unlink()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), folder / "weights.pt")
    with pytest.raises(
        InputError, match=r"weights\.pt cannot be read as a checkpoint .*export it as safetensors"
    ):
        load_backbone(str(folder))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip"])
@pytest.mark.parametrize("name", [WEIGHTS, "weights.pt"])
def test_damaged_files_are_refused(folder, name, content):
    (folder / WEIGHTS).unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        load_backbone(str(folder))


@pytest.mark.parametrize("content", [torch.zeros(3), [1, 2], {}])
def test_pickles_without_named_tensors_are_refused(folder, content):
    (folder / WEIGHTS).unlink()
    torch.save(content, folder / "weights.pt")
    with pytest.raises(InputError, match=r"weights\.pt"):
        load_backbone(str(folder))


def test_weights_of_another_width_are_named(folder):
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["embed_dim"] = 24
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"not for the architecture local \(size mismatch"):
        load_backbone(str(folder))


def test_an_architecture_can_be_named_beside_a_file(folder):
    spec = resolve(f"open_clip:ViT-B-16/{folder / WEIGHTS}")
    assert (spec.architecture, spec.width, spec.image_size) == ("ViT-B-16", 512, 224)
    assert spec.revision.startswith("sha256:")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "open_clip_config.json").unlink(), r"no open_clip_config\.json"),
        (lambda f: (f / "open_clip_config.json").write_text("{"), "no description"),
        (lambda f: (f / "open_clip_config.json").write_text("[]"), "no description"),
        (lambda f: (f / "open_clip_config.json").write_text('{"model_cfg": {}}'), "lacks embed_dim"),
    ],
)
def test_folders_without_a_sound_description_are_refused(folder, spoil, message):
    spoil(folder)
    with pytest.raises(InputError, match=message):
        resolve(str(folder))


def test_a_folder_without_weights_can_be_described_but_not_loaded(folder):
    (folder / WEIGHTS).rename(folder / "weights.npz")
    assert resolve(str(folder)).revision == "untrained"
    with pytest.raises(InputError, match="holds no weights"):
        load_backbone(str(folder))


def test_a_file_of_another_kind_is_refused(folder):
    (folder / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match="no readable checkpoint"):
        resolve(str(folder / "notes.txt"))


def test_a_tokenizer_that_lies_nowhere_is_missed_only_by_texts(model_folder, tmp_path):
    copy = shutil.copytree(model_folder("siglip"), tmp_path / "siglip")
    (copy / "tokenizer.json").unlink()
    (copy / "tokenizer_config.json").unlink()
    backbone = load_backbone(str(copy))
    assert backbone.encode_images(pixels()).shape == (1, 16)
    with pytest.raises(InputError, match="the tokenizer of"):
        backbone.tokenize(["a dog"])


def test_published_weights_are_marked_by_checksum_or_commit(tmp_path, monkeypatch):
    checksum = "a" * 64
    assert published_revision(f"https://x.org/{checksum}/b.pt", "x/y", ("m",)) == f"sha256:{'a' * 32}"
    assert published_revision("https://x.org/b-0123abcd.pt", "x/y", ("m",)) == "sha256:0123abcd"
    assert published_revision("", "owner/model", ("w.bin",)) == "owner/model@main"
    snapshot = tmp_path / "models--owner--model" / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    (snapshot / "w.bin").touch()
    (tmp_path / "models--owner--model" / "refs").mkdir()
    (tmp_path / "models--owner--model" / "refs" / "main").write_text("c0ffee")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert published_revision("", "owner/model", ("absent", "w.bin")) == "owner/model@c0ffee"


def test_a_few_keys_are_named_and_the_rest_counted():
    assert first_of(["a", "b"]) == "a, b"
    assert first_of(list("abcdefg")) == "a, b, c, d, e and 2 more"
