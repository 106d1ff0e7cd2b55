from pathlib import Path
from typing import Any

import pytest
import torch

from mmret.composition import CombinedFeatures, CombinerNetwork, QueryBatch, load_combiner, save_combiner
from mmret.composition.combiner import HIDDEN_WIDTH, PROJECTION_WIDTH
from mmret.errors import InputError

IMAGES = torch.tensor([[3.0, 0.0, 0.0, 4.0], [0.0, 0.0, 0.0, 2.0]])
BATCH = QueryBatch(("q1", "q2"), ("r1", "r2"), (("red",), ("blue", "a ring")), IMAGES)
OFFICIAL = {
    "text_projection_layer", "image_projection_layer", "combiner_layer", "output_layer", "dynamic_scalar.0",
    "dynamic_scalar.3",
}  # fmt: skip


@pytest.fixture
def network() -> CombinerNetwork:
    torch.manual_seed(0)
    return CombinerNetwork(4, 3, 5, backbone="toy").train()


def test_the_published_sizes_are_four_and_eight_times_the_published_backbone() -> None:
    assert (PROJECTION_WIDTH, HIDDEN_WIDTH) == (4 * 640, 8 * 640)


def test_a_network_without_output_mixes_by_its_scalar(network: CombinerNetwork, backbone: Any) -> None:
    for tensor in (*network.output_layer.parameters(), *network.dynamic_scalar[3].parameters()):
        torch.nn.init.zeros_(tensor)
    found = CombinedFeatures(network)(backbone, BATCH)
    texts = torch.tensor([[3.0, 4.0, 0.0, 0.0], [0.5, 0.0, 1.0, 0.0]])
    assert torch.allclose(found, torch.nn.functional.normalize(texts + IMAGES))  # sigmoid(0) = ½ of each
    assert network.training and not found.requires_grad


def test_official_files_load(network: CombinerNetwork, tmp_path: Path) -> None:
    assert {key.rpartition(".")[0] for key in network.state_dict()} == OFFICIAL
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"combiner": state, "epoch": 3}, tmp_path / "checkpoint.pt")
    save_combiner(network, tmp_path / "combiner.safetensors")
    for name in ("checkpoint.pt", "combiner.safetensors"):
        loaded = load_combiner(tmp_path / name)
        assert torch.equal(loaded(IMAGES, IMAGES), network.eval()(IMAGES, IMAGES))
    assert loaded.describe() == network.describe()


def test_what_does_not_fit_is_refused(network: CombinerNetwork, tmp_path: Path, backbone: Any) -> None:
    network.backbone = "clip-rn50x4"
    with pytest.raises(InputError, match=r"made for clip-rn50x4 .* not for toy"):
        CombinedFeatures(network)(backbone, BATCH)
    torch.save({"Phi": {"layers.0.weight": torch.ones(2, 2)}}, tmp_path / "phi.pt")
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    for name, reason in (
        ("phi.pt", "no tensors"),
        ("broken.safetensors", "tensors only"),
        ("none.pt", "no combiner at"),
    ):
        with pytest.raises(InputError, match=reason):
            load_combiner(tmp_path / name)
