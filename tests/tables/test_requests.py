from pathlib import Path
from typing import Any

import pytest

from mmret.errors import InputError
from mmret.tables.cells import CellRequest
from mmret.tables.requests import request_cell
from tests.tables.toy_table import TOY, ToyFingerprints, write_spec


def request(
    folder: Path, row: str = "lincir-pdv", seed: int = 0, version: str = "1", **changes: Any
) -> CellRequest:
    spec = write_spec(folder, **changes)
    return request_cell(spec, spec.row(row), seed, ToyFingerprints(version), folder / "out")


def changed_row(row: int, **changes: Any) -> list[dict[str, Any]]:
    rows = list(TOY["rows"])
    rows[row] = {**rows[row], **changes}
    return rows


def test_what_changes_the_number_changes_the_identity(tmp_path: Path) -> None:
    others = [
        request(tmp_path, seed=1),
        request(tmp_path, version="2"),
        request(tmp_path, backbone="large"),
        request(tmp_path, split="val"),
        request(tmp_path, protocol={"remove_reference": True}),
        request(tmp_path, metrics=["success@1"]),
        request(tmp_path, rows=changed_row(2, pdv="auto")),
        request(tmp_path, rows=changed_row(1, train={"config": "phi.yaml", "trainer.max_steps": 4})),
    ]
    identities = {item.identity for item in [request(tmp_path), *others]}
    assert len(identities) == len(others) + 1


def test_names_and_notes_do_not(tmp_path: Path) -> None:
    plain = request(tmp_path)
    assert request(tmp_path, title="Another", notes=["a remark"], tolerance=1).identity == plain.identity
    assert request(tmp_path, rows=changed_row(2, label="PDV", note="?")).identity == plain.identity


def test_contents_of_training_configs_count_and_their_comments_do_not(tmp_path: Path) -> None:
    before = request(tmp_path)
    spec = write_spec(tmp_path)
    contents = []
    for text in ("# a remark\nmodel: {width: 8}\n", "model: {width: 9}\n"):
        (tmp_path / "phi.yaml").write_text(text)
        contents.append(request_cell(spec, spec.row("lincir-pdv"), 0, ToyFingerprints(), tmp_path).identity)
    assert contents[0] == before.identity
    assert contents[1] != before.identity


def test_contents_of_named_weights_count(tmp_path: Path) -> None:
    rows = [
        {"name": "a", "method": {"name": "pseudo-word", "phi": "weights.pt", "template": "{word}. It {text}"}}
    ]
    identities = []
    for content in (b"one", b"two"):
        (tmp_path / "weights.pt").write_bytes(content)
        found = request(tmp_path, "a", rows=rows)
        identities.append(found.identity)
        assert found.method["phi"] == str((tmp_path / "weights.pt").resolve())
        assert found.method["template"] == "{word}. It {text}"
    assert identities[0] != identities[1]


@pytest.mark.parametrize("name", ["dense-text", "rerank"])
def test_a_text_model_s_folder_counts_by_its_weights_and_a_hub_s_by_its_commit(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))

    def found(model: str, **more: str) -> CellRequest:
        parts = {"of": ["text"]} if name == "rerank" else {}
        row = {"name": "a", "label": "A", "method": {"name": name, "model": model, **parts, **more}}
        return request(tmp_path, "a", rows=[TOY["rows"][0], row])

    cells = []
    for content in (b"one", b"two"):
        (tmp_path / "encoder").mkdir(exist_ok=True)
        (tmp_path / "encoder/model.safetensors").write_bytes(content)
        cells.append(found("encoder"))
        assert cells[-1].method["model"] == str(tmp_path / "encoder")
    cells.append(found("us/encoder"))
    assert "revision" not in cells[-1].method
    for commit in ("0" * 40, "1" * 40):
        hub = tmp_path / "cache/models--us--encoder"
        (hub / f"snapshots/{commit}").mkdir(parents=True)
        (hub / f"snapshots/{commit}/config.json").write_text("{}")
        (hub / "refs").mkdir(exist_ok=True)
        (hub / "refs/main").write_text(commit)
        cells.append(found("us/encoder"))
        assert cells[-1].method["revision"] == commit
    cells.append(found("us/encoder", revision="main"))
    assert cells[-1].method["revision"] == "main"
    assert len({cell.identity for cell in cells}) == len(cells) == 6
    assert "weights" not in found("not a name").description


def test_rows_share_a_training_and_seeds_do_not(tmp_path: Path) -> None:
    base, pdv, other = request(tmp_path, "lincir"), request(tmp_path), request(tmp_path, seed=1)
    assert base.train_identity == pdv.train_identity
    assert base.identity != pdv.identity
    assert pdv.train_identity != other.train_identity
    assert request(tmp_path, "text").train_identity is None


def test_a_text_encoder_counts_by_its_content_and_by_what_trains_it(tmp_path: Path) -> None:
    (tmp_path / "rtd.yaml").write_text("model: {noise: rms}\n")
    for name in ("one", "two"):
        (tmp_path / f"{name}.safetensors").write_bytes(name.encode())
    tuned = {"train": {"config": "rtd.yaml"}}
    encoders = [
        None,
        "one.safetensors",
        "two.safetensors",
        {"file": "one.safetensors", "reference": "frozen"},
        tuned,
        {"train": {"config": "rtd.yaml", "trainer.max_steps": 3}},
        {**tuned, "phi": {"config": "rtd.yaml"}},
    ]
    found = [request(tmp_path, "lincir", rows=changed_row(1, text_encoder=encoder)) for encoder in encoders]
    assert len({cell.identity for cell in found}) == len(encoders)
    assert [cell.text_identity is not None for cell in found] == [False] * 4 + [True] * 3
    assert len({cell.text_identity for cell in found}) == 4
    assert found[1].text_encoder == {"file": str((tmp_path / "one.safetensors").resolve())}
    assert found[4].text_encoder == {"train": {"config": (str((tmp_path / "rtd.yaml").resolve()),)}}
    with pytest.raises(InputError, match="no file gone"):
        request(tmp_path, "lincir", rows=changed_row(1, text_encoder="gone.safetensors"))


def test_text_encoders_of_other_phis_are_other_trainings(tmp_path: Path) -> None:
    (tmp_path / "rtd.yaml").write_text("model: {noise: rms}\n")
    identities = []
    for content in (b"one", b"two"):
        (tmp_path / "phi.pt").write_bytes(content)
        row = {"name": "a", "method": {"name": "pseudo-word", "phi": "phi.pt"},
               "text_encoder": {"train": {"config": "rtd.yaml"}}}  # fmt: skip
        identities += [request(tmp_path, "a", seed=seed, rows=[row]).text_identity for seed in (0, 1)]
    assert len(set(identities)) == 4


def test_the_runner_gets_absolute_configs_and_its_overrides(tmp_path: Path) -> None:
    found = request(tmp_path)
    assert found.train == {"config": (str((tmp_path / "phi.yaml").resolve()),), "trainer.max_steps": 3}
    assert found.path.name == f"lincir-pdv.seed0.{found.identity[:12]}.json"


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no training config gone\.yaml"):
        request(tmp_path, "lincir", rows=changed_row(1, train={"config": "gone.yaml"}))
