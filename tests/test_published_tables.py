"""Every published benchmark in its authors' layout, through a table to metrics and server files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import yaml

from mmret.backbones.openclip_specs import CONFIG
from mmret.backbones.pretraining import save_backbone, trainable_backbone
from mmret.composition import MappingNetwork, save_phi
from mmret.data import load_benchmark
from mmret.data.catalogue import RELEASES
from mmret.data.page_labels import CONTOSO, MANUALS
from mmret.data.vidore import SLIDEVQA, VIDORE
from mmret.data.wiki_ss import WIKI_SS
from mmret.experiment import run_cell
from mmret.retrieval.run import Run
from mmret.scoring import read_any_run, score
from mmret.server_files import read_submission
from mmret.tables import load_spec, run_table
from mmret.tables.table import Table
from tests.data.published_layouts import write_all
from tests.methods.toy_data import write_backbone

QUICK = {
    *("cirr", "circo", "fashioniq-dress", "fashioniq-union-dress", "genecis-focus-attribute"),
    *("coco-captions-text-to-image", "flickr30k-image-to-text"),
}
"""One of every kind; its relatives run among the slow tests."""

MARKED = {name: name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in RELEASES}
PAGES = {release.name for release in (*VIDORE, *SLIDEVQA, *WIKI_SS, *CONTOSO, *MANUALS)}
"""Sets of pages: `test_document_tables.py` has these."""
CAPTIONS = [case for name, case in MARKED.items() if "-to-" in name]
COMPOSED = [case for name, case in MARKED.items() if "-to-" not in name and name not in PAGES]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of every benchmark, a tiny random CLIP and a random φ of its widths."""
    root = tmp_path_factory.mktemp("published")
    write_all(root / "data")
    write_backbone(root / "clip")
    torch.manual_seed(0)
    save_phi(MappingNetwork(16, 32, 16), root / "phi.safetensors")
    return root


@pytest.fixture(autouse=True)
def data_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMRET_DATA", str(root / "data"))


def table(folder: Path, backbone: Path, benchmark: str, split: str, rows: dict[str, Any]) -> Table:
    """The table of one benchmark, run."""
    content = {
        "name": f"{benchmark}-{split}",
        "title": benchmark,
        "backbone": str(backbone),
        "benchmark": benchmark,
        "split": split,
        "metrics": list(RELEASES[benchmark].metrics),
        "rows": [{"name": name, "label": name, **row} for name, row in rows.items()],
    }
    path = folder / f"{benchmark}-{split}.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return run_table(load_spec(path), run_cell, folder / "runs")


def pdv_rows(phi: Path) -> dict[str, Any]:
    method = {"name": "pseudo-word", "phi": str(phi)}
    return {
        "image": {"method": "image-only"},
        "phi": {"method": method},
        "phi-pdv": {"method": method, "pdv": {"alpha_text": 1.2, "alpha_image": 0.8, "beta": 0.6}},
    }


@pytest.mark.parametrize("name", COMPOSED)
def test_a_table_of_composed_queries(name: str, root: Path, tmp_path: Path) -> None:
    split = next(iter(RELEASES[name].counts))
    found = table(tmp_path, root / "clip", name, split, pdv_rows(root / "phi.safetensors"))
    assert found.reasons == {}
    benchmark = load_benchmark(name, split)
    for record in found.records.values():
        assert list(record.outcome.query_ids) == list(benchmark.judgements)
        runs = [
            Run.load(record.outcome.facts[key])
            for key in ("run", "subset_run")
            if key in record.outcome.facts
        ]
        # What the table holds is what scoring the stored runs gives.
        assert score(benchmark, *runs).evaluation.means == record.means
    expect_the_conventions(
        benchmark.protocol, Run.load(found.records["image", 0].outcome.facts["run"]), benchmark
    )


def expect_the_conventions(protocol: Any, run: Run, benchmark: Any) -> None:
    """Image-only puts the reference first wherever it can be found."""
    first = {query: run.ranking(query)[0][0] for query in run.query_ids}
    same = sum(first[query.id] == query.reference for query in benchmark.queries)
    if protocol.gallery == "pool":
        assert all(first[query.id] in benchmark.pools[query.id] for query in benchmark.queries)
    else:
        assert same == (0 if protocol.remove_reference else len(benchmark.queries))


@pytest.mark.parametrize("name", CAPTIONS)
def test_a_table_of_captions_and_images(name: str, root: Path, tmp_path: Path) -> None:
    split = next(iter(RELEASES[name].counts))
    asks_text = name.endswith("text-to-image")
    rows = {"clip": {"method": "text-only" if asks_text else "image-only"}, "wrong": {"method": "sum"}}
    found = table(tmp_path, root / "clip", name, split, rows)
    record = found.records["clip", 0]
    assert len(record.outcome.query_ids) == len(load_benchmark(name, split).queries)
    assert 0 <= record.means["success@1"] <= record.means["success@10"] <= 1
    assert ("no reference image, so sum has" if asks_text else "have no text") in found.reasons["wrong", 0]


def submitted(found: Table, folder: Path) -> list[Path]:
    """The server's files of a table's only row."""
    names = found.records["image", 0].outcome.submission
    return [next((folder / "runs").rglob(f"*.submission/{name}")) for name in names]


@pytest.mark.parametrize(("name", "split"), [("cirr", "test1"), ("circo", "test")])
def test_hidden_ground_truth_ends_in_server_files(name: str, split: str, root: Path, tmp_path: Path) -> None:
    found = table(tmp_path, root / "clip", name, split, {"image": {"method": "image-only"}})
    assert found.reasons == {}
    assert {item.verdict for item in found.rows[0].comparisons.values()} == {"awaiting server"}
    assert found.to_markdown().count("submission written, awaiting server") == len(RELEASES[name].metrics)
    benchmark = load_benchmark(name, split)
    assert found.records["image", 0].description["benchmark"]["split"] == split
    paths = submitted(found, tmp_path)
    assert len(paths) == (2 if name == "cirr" else 1)
    for path in paths:
        run = read_submission(path, benchmark).run
        assert set(run.query_ids) == {query.id for query in benchmark.queries}


def test_pdv_is_chosen_on_fashioniq_s_training_split(root: Path, tmp_path: Path) -> None:
    method = {"name": "pseudo-word", "phi": str(root / "phi.safetensors")}
    rows = {"pdv": {"method": method, "pdv": {"select": "train", "grid": "plain-fusion"}}}
    found = table(tmp_path, root / "clip", "fashioniq-dress", "val", rows)
    assert found.records["pdv", 0].outcome.facts["selected_on"] == ["fashioniq-dress", "train"]


def test_the_copy_of_a_target_ties_with_it_and_wins(root: Path, tmp_path: Path) -> None:
    found = table(tmp_path, root / "clip", "genecis-change-object", "test", {"text": {"method": "text-only"}})
    run = Run.load(found.records["text", 0].outcome.facts["run"])
    ranking = run.ranking("0")
    copy = [name for name, _ in ranking].index("000000000002#2")
    assert len(ranking) == 15
    assert ranking[copy + 1] == ("000000000002", ranking[copy][1])


@pytest.mark.slow
def test_a_random_vit_b_32_runs_every_kind_of_benchmark(root: Path, tmp_path: Path) -> None:
    backbone = tmp_path / "ViT-B-32"
    backbone.mkdir()
    described = {"model_cfg": open_clip.get_model_config("ViT-B-32"), "preprocess_cfg": {}}
    (backbone / CONFIG).write_text(json.dumps(described))
    torch.manual_seed(0)
    save_backbone(trainable_backbone(str(backbone), from_scratch=True), backbone, torch.float32)
    save_phi(MappingNetwork(512, 2048, 512), tmp_path / "phi.safetensors")
    for name in ("cirr", "circo", "fashioniq-toptee", "genecis-focus-attribute"):
        split = next(iter(RELEASES[name].counts))
        found = table(tmp_path, backbone, name, split, pdv_rows(tmp_path / "phi.safetensors"))
        assert found.reasons == {}
        assert all(np.isfinite(list(record.means.values())).all() for record in found.records.values())
    found = table(tmp_path, backbone, "circo", "test", {"image": {"method": "image-only"}})
    circo = load_benchmark("circo", "test")
    (path,) = submitted(found, tmp_path)
    assert len(read_any_run(path, circo).run) == len(circo.queries)
