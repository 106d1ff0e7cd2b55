import os
from pathlib import Path

import pytest
import torch

from mmret.composition import MappingNetwork, Pic2WordNetwork, load_phi, save_phi
from mmret.errors import InputError
from tests.full_disk import full_after


@pytest.fixture
def phi() -> MappingNetwork:
    torch.manual_seed(0)
    return MappingNetwork(4, 16, 3, backbone="toy").eval()


def test_the_keys_are_those_of_the_released_files(phi: MappingNetwork) -> None:
    assert (
        tuple(phi.state_dict())
        == MappingNetwork.KEYS
        == (
            "layers.0.weight",
            "layers.0.bias",
            "layers.3.weight",
            "layers.3.bias",
            "layers.6.weight",
            "layers.6.bias",
        )
    )


def test_it_is_three_linear_layers_with_gelu(phi: MappingNetwork) -> None:
    features, state = torch.randn(5, 4), phi.state_dict()
    hidden = features
    for layer in (0, 3):
        hidden = hidden @ state[f"layers.{layer}.weight"].T + state[f"layers.{layer}.bias"]
        hidden = 0.5 * hidden * (1 + torch.erf(hidden / 2**0.5))
    expected = hidden @ state["layers.6.weight"].T + state["layers.6.bias"]
    assert torch.allclose(phi(features), expected, atol=1e-6)
    assert phi(features.half()).dtype == torch.float32


def test_dropout_is_a_half_while_training() -> None:
    phi = MappingNetwork(2, 8, 2).train()
    assert [layer.p for layer in phi.layers if isinstance(layer, torch.nn.Dropout)] == [0.5, 0.5]


@pytest.mark.parametrize("name", ["phi.safetensors", "phi.pt"])
def test_files_read_back(phi: MappingNetwork, tmp_path: Path, name: str) -> None:
    save_phi(phi.train(), tmp_path / "deep" / name)
    loaded = load_phi(tmp_path / "deep" / name, backbone="toy")
    assert loaded.describe() == phi.describe()
    assert not loaded.training
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [name]


@pytest.mark.parametrize("name", ["phi.safetensors", "phi.pt"])
def test_a_full_disk_keeps_the_former_file(phi: MappingNetwork, tmp_path: Path, name: str) -> None:
    save_phi(phi, tmp_path / name)
    with full_after(1_000), pytest.raises(InputError, match=f"Cannot write .*{name}"):
        save_phi(MappingNetwork(40, 16, 30), tmp_path / name)
    assert load_phi(tmp_path / name).describe() == phi.describe()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_released_file_loads(phi: MappingNetwork, tmp_path: Path) -> None:
    state = {f"module.{key}": tensor.half() for key, tensor in phi.state_dict().items()}
    torch.save({"epoch": 3, "Phi": state}, tmp_path / "SEARLE.pt")
    loaded = load_phi(tmp_path / "SEARLE.pt", backbone="clip")
    assert loaded.widths == (4, 16, 3)
    assert loaded.backbone == "clip"
    assert next(loaded.parameters()).dtype == torch.float32


def test_pic2words_network_is_the_papers() -> None:
    phi = Pic2WordNetwork(4, 16, 3).eval()
    features, state = torch.randn(5, 4), phi.state_dict()
    hidden = features
    for layer in (0, 1):
        hidden = torch.relu(hidden @ state[f"layers.{layer}.0.weight"].T + state[f"layers.{layer}.0.bias"])
    torch.testing.assert_close(phi(features), hidden @ state["fc_out.weight"].T + state["fc_out.bias"])
    assert [layer.p for layer in phi.modules() if isinstance(layer, torch.nn.Dropout)] == [0.1, 0.1]


@pytest.mark.parametrize(
    ("width", "known"), [(512, "B/32"), (768, "L/14"), (1024, "H/14"), (1280, "bigG/14")]
)
def test_released_files_are_told_by_their_keys_and_widths(width: int, known: str, tmp_path: Path) -> None:
    searle = MappingNetwork(width, 4, width).state_dict()
    torch.save({"epoch": 3, "Phi": searle}, tmp_path / "searle.pt")
    pic2word = {
        f"module.{key}": value for key, value in Pic2WordNetwork(width, 512, width).state_dict().items()
    }
    rest = {
        "epoch": 1,
        "name": "p",
        "state_dict": {"module.logit_scale": torch.ones(())},
        "optimizer": {"state": {}},
    }
    torch.save({**rest, "state_dict_img2text": pic2word}, tmp_path / "pic2word.pt")
    assert load_phi(tmp_path / "searle.pt").widths == (width, 4, width)
    loaded = load_phi(tmp_path / "pic2word.pt")
    assert isinstance(loaded, Pic2WordNetwork)
    assert loaded.widths == (width, 512, width)
    with pytest.raises(InputError, match=f"such as CLIP ViT-.*{known}.*; other has features of width 640"):
        loaded.check_backbone("other", 640, 640)


def test_a_pic2word_phi_reads_back_in_both_formats(tmp_path: Path) -> None:
    phi = Pic2WordNetwork(4, 8, 3, backbone="toy").eval()
    for name in ("phi.safetensors", "phi.pt"):
        save_phi(phi, tmp_path / name)
        assert load_phi(tmp_path / name).describe() == phi.describe()


def test_released_names_come_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    torch.save({"epoch": 1, "Phi": MappingNetwork(512, 8, 512).state_dict()},
               tmp_path / "hub/checkpoints/SEARLE_ViT-B32.pt")  # fmt: skip
    assert load_phi("searle-vit-b-32").backbone == "clip-vit-b-32"
    with pytest.raises(InputError, match="made for clip-vit-b-32, not for miniature-clip"):
        load_phi("searle-vit-b-32", backbone="miniature-clip")
    with pytest.raises(InputError, match="lincir-vit-l-14 is not in the local cache and cannot be fetched"):
        load_phi("lincir-vit-l-14")
    with pytest.raises(InputError, match="hub:OWNER/REPOSITORY/FILE"):
        load_phi("hub:lincir_large.pt")


class Payload:
    """What a pickle must not be allowed to do: run a command while it is read."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.trace}",)


def test_a_checkpoint_runs_no_code(phi: MappingNetwork, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    torch.save({"Phi": phi.state_dict(), "extra": Payload(trace)}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match="tensors only"):
        load_phi(tmp_path / "evil.pt")
    assert not trace.exists()


def test_another_backbone_is_refused(phi: MappingNetwork, tmp_path: Path) -> None:
    save_phi(phi, tmp_path / "phi.safetensors")
    with pytest.raises(InputError, match="made for toy, not for clip"):
        load_phi(tmp_path / "phi.safetensors", backbone="clip")
    with pytest.raises(InputError, match="made for toy, not for clip"):
        phi.check_backbone("clip", 4, 3)
    with pytest.raises(InputError, match="width 4 and tokens of width 3; clip has features of width 8"):
        phi.check_backbone("clip", 8, 3)


def test_width_errors_say_what_fits() -> None:
    phi = MappingNetwork(768, 8, 768)
    with pytest.raises(InputError, match=r"such as CLIP ViT-L/14; these features are 512 wide"):
        phi(torch.ones(1, 512))


class Sneaky:
    """What a pickle must not be able to smuggle in."""


def test_files_of_other_kinds_are_refused(phi: MappingNetwork, tmp_path: Path) -> None:
    torch.save({"Phi": Sneaky()}, tmp_path / "sneaky.pt")
    torch.save({"state": phi.state_dict()}, tmp_path / "other.pt")
    torch.save({"Phi": {"fc.weight": torch.ones(2, 2)}}, tmp_path / "keys.pt")
    torch.save({"Phi": phi.state_dict() | {"layers.3.bias": torch.ones(2)}}, tmp_path / "torn.pt")
    (tmp_path / "broken.safetensors").write_bytes(b"not a tensor")
    (tmp_path / "broken.pt").write_bytes(b"not a pickle")
    reasons = {
        "sneaky.pt": "tensors only",
        "other.pt": 'neither "Phi" nor "state_dict_img2text"',
        "keys.pt": "fc.weight",
        "torn.pt": "do not fit together",
        "broken.safetensors": "not a safetensors file",
        "broken.pt": "tensors only",
        "absent.pt": "no φ at",
    }
    for name, reason in reasons.items():
        with pytest.raises(InputError, match=reason):
            load_phi(tmp_path / name)


def test_equal_weights_have_equal_digests(phi: MappingNetwork) -> None:
    twin = MappingNetwork(4, 16, 3, backbone="toy")
    twin.load_state_dict(phi.state_dict())
    assert twin.describe() == phi.describe()
    with torch.no_grad():
        twin.layers[0].bias[0] += 1e-3
    assert twin.describe()["sha256"] != phi.describe()["sha256"]
