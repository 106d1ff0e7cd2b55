from pathlib import Path

import pytest
import torch

from mmret.composition import MappingNetwork, load_phi, save_phi

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
        "other.pt": 'no "Phi"',
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
