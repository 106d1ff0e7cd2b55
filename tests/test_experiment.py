import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmret.backbones import load_backbone
from mmret.backbones.text_tower import load_text_encoder, save_text_encoder, trainable_text_tower
from mmret.cell_training import training_folders
from mmret.composition import PDV, ComposedFeatures, composer_from_spec
from mmret.composition.phi import MappingNetwork
from mmret.composition.phi_files import save_phi
from mmret.composition.word_files import PseudoWords
from mmret.corridor import compose, query_vectors, rank_queries
from mmret.data import load_benchmark
from mmret.data.annotated_folder import load_annotated_folder
from mmret.data.benchmark import Benchmark
from mmret.encoded_benchmark import EncodedBenchmark, encode_benchmark
from mmret.errors import InputError
from mmret.experiment import run_cell
from mmret.pdv_choice import select_pdv
from mmret.retrieval.run import Run
from mmret.tables.cells import CellRequest, file_digest
from tests.methods.toy_data import write_backbone, write_world


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> EncodedBenchmark:
    root = tmp_path_factory.mktemp("experiment")
    backbone = load_backbone(str(write_backbone(root / "clip")))
    return encode_benchmark(
        backbone, load_annotated_folder(write_world(root / "world"), "test"), root / "stores"
    )


def features(encoded: EncodedBenchmark, seed: int = 0) -> ComposedFeatures:
    torch.manual_seed(seed)
    return ComposedFeatures(*(torch.randn(3, encoded.vectors.shape[1]) for _ in range(3)))


def test_the_gallery_is_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load_backbone(str(write_backbone(tmp_path / "clip")))
    benchmark = load_annotated_folder(write_world(tmp_path / "world"), "test")
    first = encode_benchmark(backbone, benchmark, tmp_path / "stores")
    monkeypatch.setattr(type(backbone), "encode_images", None)
    again = encode_benchmark(backbone, benchmark, tmp_path / "stores")
    assert np.array_equal(first.vectors, again.vectors)


def test_a_batch_holds_the_unnormalised_references(encoded: EncodedBenchmark) -> None:
    batch = encoded.batch([2, 0])
    assert (batch.ids, batch.references) == (("q2", "q0"), ("yellow.png", "white.png"))
    assert batch.texts == (("make it white",), ("make it black",))
    row = encoded.benchmark.image_ids.index("yellow.png")
    assert np.array_equal(batch.reference_image[0].numpy(), encoded.vectors[row])
    assert abs(float(batch.reference_image[0].norm()) - 1) > 0.01


def test_a_removed_reference_is_a_field_of_the_benchmark(encoded: EncodedBenchmark) -> None:
    benchmark = replace(
        encoded.benchmark, protocol=replace(encoded.benchmark.protocol, remove_reference=True)
    )
    removed = EncodedBenchmark(benchmark, encoded.vectors)
    rows = [encoded.benchmark.image_ids.index(name) for name in ("white.png", "black.png", "yellow.png")]
    with_it, without = (rank_queries(encoded.vectors[rows], item).run for item in (encoded, removed))
    assert with_it.ranking("q0")[0][0] == "white.png"
    assert [name for name, _ in without.ranking("q0")] == [name for name, _ in with_it.ranking("q0")[1:]]


def test_pdv_is_selected_on_another_split_with_the_values_of_separate_searches(
    encoded: EncodedBenchmark,
) -> None:
    benchmark = replace(encoded.benchmark, metrics=("mrr@3",))
    item = EncodedBenchmark(benchmark, encoded.vectors)
    chosen = select_pdv(features(encoded), item, {"grid": "plain-fusion"}, (benchmark.name, "holdout"))
    values = {
        setting: rank_queries(query_vectors(features(encoded), setting), item).evaluation.means["mrr@3"]
        for setting in chosen.settings
    }
    assert list(values.values()) == pytest.approx(chosen.values.tolist())
    assert values[chosen.best] == max(values.values())
    with pytest.raises(InputError, match="another split"):
        select_pdv(features(encoded), item, {}, (benchmark.name, benchmark.split))
    with pytest.raises(InputError, match="no grid of PDV settings 'fine'"):
        select_pdv(features(encoded), item, {"grid": "fine"}, (benchmark.name, "holdout"))


def test_base_vectors_are_the_composed_text(encoded: EncodedBenchmark) -> None:
    three = features(encoded)
    assert np.array_equal(query_vectors(three), three.composed_text.numpy())
    assert np.array_equal(query_vectors(three, PDV()), three.composed_text.numpy())
    assert np.array_equal(query_vectors(three.reference_image), three.reference_image.numpy())


def test_cut_queries_are_told_once_for_all_batches(
    encoded: EncodedBenchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = tuple(replace(query, texts=("very " * 200,)) for query in encoded.benchmark.queries)
    item = EncodedBenchmark(replace(encoded.benchmark, queries=queries), encoded.vectors)
    backbone = load_backbone(str(write_backbone(tmp_path / "clip")))
    monkeypatch.setattr("mmret.corridor._QUERIES_AT_ONCE", 1)
    with pytest.warns(UserWarning, match="were cut") as caught:
        compose(backbone, item, composer_from_spec("text-only"))
    assert [str(warning.message).split(" texts")[0] for warning in caught] == ["3 of 3"]
    assert backbone.warns_of_cuts


def request(tmp_path: Path, **changes: Any) -> CellRequest:
    settings: dict[str, Any] = {
        "table": "toy", "row": "text-only", "seed": 0, "backbone": str(tmp_path / "clip"),
        "benchmark": f"folder:{tmp_path / 'world'}", "split": "test", "protocol": {"preprocess": "center-crop"},
        "metrics": ("success@1", "mrr@3"), "method": {"name": "text-only"}, "pdv": None, "train": None,
        "description": {}, "folder": tmp_path / "tables" / "toy",
    }  # fmt: skip
    return CellRequest(**{**settings, **changes})


def test_a_cell_gives_the_numbers_of_the_corridor(tmp_path: Path) -> None:
    backbone = load_backbone(str(write_backbone(tmp_path / "clip")))
    benchmark = load_annotated_folder(write_world(tmp_path / "world"), "test")
    outcome = run_cell(request(tmp_path))
    item = encode_benchmark(backbone, replace(benchmark, metrics=("success@1", "mrr@3")))
    vectors = query_vectors(compose(backbone, item, composer_from_spec("text-only")))
    wanted = rank_queries(vectors, item).evaluation
    assert outcome.references == ["white.png", "black.png", "yellow.png"]
    assert {name: values.tolist() for name, values in outcome.per_query.items()} == {
        name: values.tolist() for name, values in wanted.per_query.items()
    }
    assert Path(outcome.facts["run"]).is_file()
    assert outcome.protocol == asdict(benchmark.protocol)
    assert outcome.config["backbone"] == asdict(backbone.spec)
    assert outcome.config["method"] == {"name": "text-only"}


CAPTIONS = [
    {
        "id": f"q{row}",
        "base_caption": ["a square", "a box"],
        "modified_captions": [f"one {row}", f"two {row}"],
    }
    for row in range(3)
]


def test_a_cell_may_score_similarities(tmp_path: Path) -> None:
    write_backbone(tmp_path / "clip")
    write_world(tmp_path / "world")
    method = {"name": "caption-edit", "captions": {"by_split": {"test": CAPTIONS}}}
    zero, plain = (
        run_cell(request(tmp_path, row=row, method=method, scoring=scoring))
        for row, scoring in (("zero", {"name": "seize", "positive": 0, "negative": 0}), ("plain", None))
    )
    assert zero.pdv is None and zero.config["scoring"]["name"] == "seize"
    assert zero.per_query["mrr@3"].tolist() == plain.per_query["mrr@3"].tolist()
    ldre = run_cell(request(tmp_path, row="ldre", method={"name": "ldre", "captions": CAPTIONS}, pdv="auto"))
    assert ldre.pdv == {"alpha_text": 1.0, "alpha_image": "auto", "beta": 0.75}
    method = {"name": "caption-edit", "captions": {"by_split": {"val": CAPTIONS}}}
    with pytest.raises(InputError, match="given for the splits val, and test is needed"):
        run_cell(request(tmp_path, method=method))


def test_a_cell_trains_its_backbone_where_its_method_has_no_weights(tmp_path: Path) -> None:
    folder = write_backbone(tmp_path / "clip")
    write_world(tmp_path / "world")
    description = {"backbone": {"name": "clip"}, "seed": 0, "train": {"config": ["toy"]}}
    wanted = request(tmp_path, train={"config": ("absent.yaml",)}, description=description)
    with pytest.raises(InputError, match="training for row text-only, seed 0, failed; its output is in"):
        run_cell(wanted)
    # What a training would have left is taken, and trained no second time.
    trained = Path(training_folders(wanted)["training"]) / "backbone"
    shutil.copytree(folder, trained)
    outcome = run_cell(wanted)
    assert outcome.config["backbone"]["weights"].startswith(str(trained))
    assert outcome.facts["training"] == str(trained.parent)


def test_a_cell_finds_its_pseudo_words_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_backbone(tmp_path / "clip")
    write_world(tmp_path / "world")
    settings = {"steps": 2, "lambda_gpt": 0}
    cell = request(tmp_path, row="oti", method={"name": "oti", "words": {"invert": settings}})
    first = run_cell(cell)
    (file,) = (tmp_path / "tables" / "words").glob("*.safetensors")
    words = PseudoWords.load(file)
    assert set(words.ids) == {"white.png", "black.png", "yellow.png"}
    assert words.settings["steps"] == 2
    monkeypatch.setattr("mmret.inversion.oti.OTI.__call__", None)
    direct = run_cell(request(tmp_path, row="words", method={"name": "oti", "words": str(file)}))
    for found in (run_cell(cell), direct):
        assert found.per_query["mrr@3"].tolist() == first.per_query["mrr@3"].tolist()
    wrong = {"name": "oti", "words": {"invert": {"stepps": 2}}}
    with pytest.raises(InputError, match="OTI has no stepps"):
        run_cell(request(tmp_path, method=wrong))


def tuned_encoder(root: Path) -> str:
    """A text encoder of the toy backbone that differs from it."""
    tower = trainable_text_tower(load_backbone(str(root / "clip")))
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    save_text_encoder(tower, root / "text.safetensors", {})
    return str(root / "text.safetensors")


def test_a_tuned_text_encoder_encodes_the_queries_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_backbone(tmp_path / "clip")
    write_world(tmp_path / "world")
    run_cell(request(tmp_path))
    tuned = {"file": tuned_encoder(tmp_path)}
    backbone = load_backbone(str(tmp_path / "clip"))
    monkeypatch.setattr(type(backbone), "encode_images", None)  # the stores of images stay valid
    outcome = run_cell(request(tmp_path, row="rtd", text_encoder=tuned))
    item = encode_benchmark(
        backbone, load_annotated_folder(tmp_path / "world", "test"), tmp_path / "tables" / "stores"
    )
    vectors = query_vectors(
        compose(load_text_encoder(backbone, tuned["file"]), item, composer_from_spec("text-only"))
    )
    run = Run.load(outcome.facts["run"])
    assert np.allclose(np.sort(run.scores), np.sort(rank_queries(vectors, item).run.scores), atol=1e-6)
    assert outcome.config["text_encoder"] == tuned


def test_a_tuned_text_encoder_encodes_a_gallery_of_texts(tmp_path: Path) -> None:
    write_backbone(tmp_path / "clip")
    changes = {
        "benchmark": "miniature-attributes",
        "metrics": ("success@1",),
        "method": {"name": "image-only"},
    }
    plain = Run.load(run_cell(request(tmp_path, row="plain", **changes)).facts["run"])
    tuned = {"file": tuned_encoder(tmp_path)}
    found = Run.load(run_cell(request(tmp_path, row="tuned", text_encoder=tuned, **changes)).facts["run"])
    assert not np.allclose(found.scores[:, :2], plain.scores[:, :2], atol=1e-3)
    encoder = load_text_encoder(load_backbone(str(tmp_path / "clip")), tuned["file"])
    benchmark = load_benchmark("miniature-attributes", "test")
    query = benchmark.queries[0]
    image = load_backbone(str(tmp_path / "clip"))
    pixels = image.transform(benchmark.images.read(str(query.reference)))[None]
    texts = encoder.encode_text(encoder.tokenize([benchmark.texts[name] for name in query.subset]))
    wanted = torch.cosine_similarity(image.encode_images(pixels), texts).sort(descending=True).values
    assert np.allclose(found.scores[0, : len(wanted)], wanted.numpy(), atol=1e-5)


@pytest.mark.parametrize("reference", ["tuned", "frozen"])
def test_pdv_takes_the_reference_text_of_the_encoder_that_is_asked_for(
    tmp_path: Path, reference: str
) -> None:
    write_backbone(tmp_path / "clip")
    write_world(tmp_path / "world")
    method = {"name": "caption-edit", "captions": CAPTIONS}
    tuned = {"file": tuned_encoder(tmp_path), "reference": reference}
    cell = request(
        tmp_path, row="rtd", method=method, text_encoder=tuned, pdv={"alpha_text": 2.0, "beta": 0.7}
    )
    run = Run.load(run_cell(cell).facts["run"])
    backbone = load_backbone(str(tmp_path / "clip"))
    item = encode_benchmark(backbone, load_annotated_folder(tmp_path / "world", "test"))
    tower, composer = load_text_encoder(backbone, tuned["file"]), composer_from_spec(method)
    by_tower, by_backbone = (compose(encoder, item, composer) for encoder in (tower, backbone))
    assert not torch.allclose(by_tower.reference_text, by_backbone.reference_text)
    own = by_tower if reference == "tuned" else by_backbone
    features = replace(by_tower, reference_text=own.reference_text)
    wanted = rank_queries(query_vectors(features, PDV(alpha_text=2.0, beta=0.7)), item).run
    assert np.allclose(run.scores, wanted.scores, atol=1e-6)


def test_a_text_encoder_has_no_reference_text_of_a_method_without_one(tmp_path: Path) -> None:
    write_backbone(tmp_path / "clip")
    write_world(tmp_path / "world")
    tuned = {"file": tuned_encoder(tmp_path), "reference": "frozen"}
    with pytest.raises(InputError, match="text-only has no T_ref"):
        run_cell(request(tmp_path, text_encoder=tuned))
    with pytest.raises(InputError, match="text-only has no φ: give 'phi'"):
        run_cell(request(tmp_path, text_encoder={"train": {"config": ["a.yaml"]}}))


@pytest.mark.multiprocess
def test_a_cell_trains_its_text_encoder_from_its_phi(tmp_path: Path) -> None:
    write_backbone(tmp_path / "clip")
    write_world(tmp_path / "world")
    save_phi(MappingNetwork(16, 8, 16), tmp_path / "phi.safetensors")
    triplets = [{"caption": f"a {row}", "edit": f"say {row}", "output": f"b {row}"} for row in range(12)]
    (tmp_path / "t.json").write_text(json.dumps(triplets))
    config = tmp_path / "rtd.yaml"
    config.write_text(
        "model: {class_path: mmret.methods.RTD, init_args: {backbone: unset, phi: unset}}\n"
        "data: {class_path: mmret.data.triplets_datamodule.TextTripletsDataModule, init_args: "
        f"{{source: '{tmp_path / 't.json'}', batch_size: 3, held_out: 3}}}}\n"
        "trainer: {accelerator: cpu, max_steps: 2, logger: false, enable_progress_bar: false}\n"
    )
    method = {"name": "pseudo-word", "phi": str(tmp_path / "phi.safetensors")}
    described = {"backbone": "b", "train": None, "seed": 0, "files": {}, "method": method,
                 "text_encoder": {"train": {"config": "c"}}}  # fmt: skip
    cell = request(tmp_path, row="rtd", method=method, text_encoder={"train": {"config": [str(config)]}},
                   description=described)  # fmt: skip
    outcome = run_cell(cell)
    file = Path(outcome.facts["text_training"]) / "text_encoder.safetensors"
    stamp = file.stat().st_mtime_ns
    assert run_cell(cell).per_query["mrr@3"].tolist() == outcome.per_query["mrr@3"].tolist()
    assert file.stat().st_mtime_ns == stamp


@pytest.mark.multiprocess
def test_a_cell_trains_phi_through_the_command_once(tmp_path: Path) -> None:
    write_backbone(tmp_path / "clip")
    write_world(tmp_path / "world")
    config = tmp_path / "lincir.yaml"
    config.write_text(
        "model: {class_path: mmret.methods.LinCIR, init_args: {backbone: unset}}\n"
        "data: {class_path: mmret.data.datamodules.CaptionsDataModule, init_args: "
        f"{{source: 'folder:{tmp_path / 'world'}', batch_size: 3, held_out: 0}}}}\n"
        "trainer: {accelerator: cpu, max_steps: 2, logger: false, limit_val_batches: 0, enable_progress_bar: false}\n"
    )
    train = {"config": (str(config),)}
    cell = request(tmp_path, row="lincir", method={"name": "pseudo-word"}, train=train, pdv={"beta": 0.5},
                   description={"backbone": "b", "train": "t", "seed": 0})  # fmt: skip
    outcome = run_cell(cell)
    phi = Path(outcome.facts["training"]) / "phi.safetensors"
    stamp = phi.stat().st_mtime_ns
    assert (phi.parent / "hparams.yaml").is_file()  # the log lies there, whatever logger the config names
    assert outcome.pdv == {"alpha_text": 1.0, "alpha_image": 1.0, "beta": 0.5}
    again = run_cell(cell)
    assert phi.stat().st_mtime_ns == stamp
    assert again.per_query["mrr@3"].tolist() == outcome.per_query["mrr@3"].tolist()


@pytest.mark.multiprocess
def test_a_failed_training_names_its_log(tmp_path: Path) -> None:
    write_backbone(tmp_path / "clip")
    write_world(tmp_path / "world")
    train = {"config": (str(tmp_path / "nothing.yaml"),)}
    cell = request(tmp_path, method={"name": "pseudo-word"}, train=train,
                   description={"backbone": "b", "train": "t", "seed": 0})  # fmt: skip
    with pytest.raises(InputError, match=r"failed; its output is in .*fit\.log"):
        run_cell(cell)


def hide_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on benchmarks come without ground truth, as CIRR's and CIRCO's test splits do."""

    def load(name: str, split: str, **options: Any) -> Benchmark:
        own = load_annotated_folder(name.removeprefix("folder:"), split)
        return replace(own, queries=tuple(replace(query, targets={}) for query in own.queries))

    monkeypatch.setattr("mmret.experiment.load_benchmark", load)


def write_ranks(
    benchmark: Benchmark, run: Run, subset_run: Run | None, folder: Path, name: str
) -> Sequence[Path]:
    """A writer of server files: the best image of every query."""
    path = folder / f"{name}.json"
    folder.mkdir(parents=True)
    path.write_text(json.dumps({query.id: run.ranking(query.id)[0][0] for query in benchmark.queries}))
    return [path]


def test_a_hidden_ground_truth_gives_files_for_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_backbone(tmp_path / "clip")
    write_world(tmp_path / "world")
    hide_targets(monkeypatch)
    cell = request(tmp_path)
    with pytest.raises(InputError, match="has no evaluation server"):
        run_cell(cell)
    monkeypatch.setattr("mmret.experiment.write_submissions", write_ranks)
    outcome = run_cell(cell)
    assert (outcome.query_ids, outcome.per_query) == (["q0", "q1", "q2"], {})
    assert outcome.references == ["white.png", "black.png", "yellow.png"]
    [(name, digest)] = outcome.submission.items()
    assert set(json.loads((cell.submission_folder / name).read_text())) == {"q0", "q1", "q2"}
    assert digest == file_digest(cell.submission_folder / name)
    assert Path(outcome.facts["run"]).is_file()
