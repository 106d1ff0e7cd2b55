from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from mmret.backbones import load_backbone
from mmret.backbones.text_tower import save_text_encoder, trainable_text_tower
from mmret.composition import MappingNetwork, PseudoWord, composer_from_spec, save_phi
from mmret.composition.pdv import PDV
from mmret.composition.scoring import scoring_from_spec
from mmret.corridor import compose, query_vectors, rank_queries
from mmret.data.annotated_folder import load_annotated_folder
from mmret.data.datamodules import BenchmarkDataModule
from mmret.encoded_benchmark import encode_benchmark
from mmret.errors import InputError
from mmret.methods import ZeroShotCIR


def run_test(module: ZeroShotCIR, world: Path, **options: Any) -> dict[str, float]:
    data = BenchmarkDataModule(f"folder:{world}", "test", batch_size=2)
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
    }
    (metrics,) = Trainer(**quiet, **options).test(module, datamodule=data, verbose=False)[:1]
    return dict(metrics)


@pytest.fixture(scope="module")
def phi_file(backbone_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("phi") / "phi.safetensors"
    save_phi(MappingNetwork(16, 32, 16, backbone=str(backbone_folder)), path)
    return path


@pytest.mark.parametrize("pdv", [None, {"alpha_text": 1.2, "alpha_image": 0.7, "beta": 0.6}])
def test_lightning_gives_what_the_experiment_gives(
    backbone_folder: Path, world_folder: Path, phi_file: Path, pdv: dict[str, float | str] | None
) -> None:
    module = ZeroShotCIR(str(backbone_folder), {"name": "pseudo-word", "phi": str(phi_file)}, pdv)
    metrics = run_test(module, world_folder)
    assert module.ranked is not None

    backbone = load_backbone(str(backbone_folder))
    encoded = encode_benchmark(backbone, load_annotated_folder(world_folder, "test"))
    features = compose(backbone, encoded, PseudoWord(str(phi_file)))
    setting = None if pdv is None else PDV.from_spec(pdv)
    wanted = rank_queries(query_vectors(features, setting), encoded)
    assert np.array_equal(module.ranked.run.indices, wanted.run.indices)
    assert np.allclose(module.ranked.run.scores, wanted.run.scores, atol=1e-6)
    assert metrics == pytest.approx(
        {f"test/{name}": value for name, value in wanted.evaluation.means.items()}
    )


def test_a_tuned_text_encoder_encodes_the_queries(
    backbone_folder: Path, world_folder: Path, phi_file: Path, tmp_path: Path
) -> None:
    tower = trainable_text_tower(load_backbone(str(backbone_folder)))
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    save_text_encoder(tower, tmp_path / "text.safetensors", {})
    composer = {"name": "pseudo-word", "phi": str(phi_file)}
    module = ZeroShotCIR(str(backbone_folder), composer, text_encoder=str(tmp_path / "text.safetensors"))
    run_test(module, world_folder)
    assert module.ranked is not None
    backbone = load_backbone(str(backbone_folder))
    encoded = encode_benchmark(backbone, load_annotated_folder(world_folder, "test"))
    tuned, plain = (
        rank_queries(query_vectors(compose(encoder, encoded, PseudoWord(str(phi_file)))), encoded).run.scores
        for encoder in (tower.freeze(), backbone)
    )
    assert np.allclose(module.ranked.run.scores, tuned, atol=1e-6)
    assert not np.allclose(tuned, plain, atol=1e-3)


NUMBERS = ("one", "two", "three")
CAPTIONS = [
    {
        "id": f"q{row}",
        "multi_caption_opt": [f"a {n} square {row}" for n in NUMBERS],
        "multi_gpt-3.5_opt": [f"{n} edited {row}" for n in NUMBERS],
    }
    for row in range(3)
]
PARTS = [
    {"image": "white.png", "subject": [2, 2, 20, 20], "object": [10, 10, 30, 30]},
    {"image": "black.png", "query": "q1", "subject": [0, 0, 9, 9]},
    {"query": "q0", "subject": "a square", "object": "a thing", "predicate": "on"},
]


@pytest.mark.parametrize(
    ("composer", "scoring"),
    [
        ({"name": "caption-edit", "captions": CAPTIONS}, {"name": "seize", "preset": "circo"}),
        ({"name": "ldre", "captions": CAPTIONS}, {"name": "adast"}),
        ({"name": "ldre", "captions": CAPTIONS}, None),
        ({"name": "comclip", "parts": PARTS}, None),
    ],
)
def test_what_scores_or_needs_the_gallery_takes_the_same_way(
    backbone_folder: Path, world_folder: Path, composer: dict[str, Any], scoring: dict[str, Any] | None
) -> None:
    module = ZeroShotCIR(str(backbone_folder), composer, scoring=scoring)
    run_test(module, world_folder)
    assert module.ranked is not None

    backbone = load_backbone(str(backbone_folder))
    encoded = encode_benchmark(backbone, load_annotated_folder(world_folder, "test"))
    features = compose(backbone, encoded, composer_from_spec(composer))
    transform = None if scoring is None else scoring_from_spec(scoring)
    wanted = rank_queries(query_vectors(features, transform), encoded)
    assert np.allclose(module.ranked.run.scores, wanted.run.scores, atol=1e-6)
    assert len({*wanted.run.scores.flatten().tolist()}) > 9  # documents and queries are told apart


def test_parts_of_images_change_comclip_s_scores(backbone_folder: Path, world_folder: Path) -> None:
    backbone = load_backbone(str(backbone_folder))
    encoded = encode_benchmark(backbone, load_annotated_folder(world_folder, "test"))
    with_parts, without = (
        query_vectors(compose(backbone, encoded, composer_from_spec({"name": "comclip", "parts": parts})))
        for parts in (PARTS, PARTS[2:])
    )
    everything = np.arange(3), np.arange(3)
    moved = with_parts.scores(encoded.index)(*everything) != without.scores(encoded.index)(*everything)  # type: ignore[union-attr]
    names = [(f"q{query}", encoded.benchmark.gallery[row]) for query, row in np.argwhere(moved)]
    # q1 and q2 have no roles ("make it yellow" is no triple), so parts do not move their scores.
    assert names == [("q0", "white.png")]


def test_pdv_on_a_simple_baseline_is_refused(backbone_folder: Path, world_folder: Path) -> None:
    module = ZeroShotCIR(str(backbone_folder), {"name": "image-only"}, {"beta": 0.5})
    with pytest.raises(InputError, match="PDV needs"):
        run_test(module, world_folder)


def test_a_data_module_without_a_benchmark_is_refused(backbone_folder: Path) -> None:
    module = ZeroShotCIR(str(backbone_folder), {"name": "image-only"})
    module.trainer = Trainer(logger=False, accelerator="cpu")
    with pytest.raises(InputError, match="BenchmarkDataModule"):
        module._benchmark()


def test_image_only_ranks_the_reference_first(backbone_folder: Path, world_folder: Path) -> None:
    assert composer_from_spec({"name": "image-only"}).describe() == {"name": "image-only"}
    module = ZeroShotCIR(str(backbone_folder), {"name": "image-only"})
    run_test(module, world_folder)
    assert module.ranked is not None
    first = [module.ranked.run.ranking(f"q{row}")[0][0] for row in range(3)]
    assert first == ["white.png", "black.png", "yellow.png"]


@pytest.mark.multiprocess
def test_two_processes_give_what_one_gives(backbone_folder: Path, world_folder: Path, phi_file: Path) -> None:
    """Three queries and images on two devices: the sampler repeats one of each, which must count once."""
    composer = {"name": "pseudo-word", "phi": str(phi_file)}
    alone = run_test(ZeroShotCIR(str(backbone_folder), composer), world_folder)
    both = run_test(
        ZeroShotCIR(str(backbone_folder), composer), world_folder, devices=2, strategy="ddp_spawn"
    )
    assert both == pytest.approx(alone)
