"""Methods without an image encoder, as rows of tables, beside one with an image encoder."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from mmret.data import load_benchmark
from mmret.data.benchmark import Benchmark
from mmret.errors import InputError
from mmret.experiment import run_cell
from mmret.pages.documents import list_documents
from mmret.pages.text import extract_text
from mmret.retrieval.fusion import fuse_ranks, fuse_scores
from mmret.retrieval.run import Run
from mmret.run_methods import gallery_texts
from mmret.tables import TableSpec, load_spec, run_table
from mmret.tables.table import Table
from tests.data.page_layouts import write_labelled, write_wiki_ss
from tests.methods.toy_data import write_backbone

pytest.importorskip("bm25s", reason="BM25 needs bm25s")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages with labels and their text layer, screenshots with answers, a tiny random CLIP."""
    root = tmp_path_factory.mktemp("documents")
    pages = write_labelled(root / "data/documents/contoso")
    extract_text(list_documents(pages, kinds=["pdf"]), root / "text.jsonl", workers=0)
    write_wiki_ss(root / "data/wiki-ss")
    write_backbone(root / "clip")
    return root


@pytest.fixture(autouse=True)
def data_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMRET_DATA", str(root / "data"))


def spec(folder: Path, rows: Sequence[dict[str, Any]], **changes: Any) -> TableSpec:
    content = {
        "name": "words",
        "benchmark": "contoso",
        "split": "test",
        "metrics": ["ndcg@5", "recall@1"],
        "rows": [{"label": row["name"], **row} for row in rows],
        **changes,
    }
    path = folder / "words.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return load_spec(path)


def ran(folder: Path, rows: Sequence[dict[str, Any]], **changes: Any) -> Table:
    return run_table(spec(folder, rows, **changes), run_cell, folder / "runs")


def run_of(table: Table, row: str) -> Run:
    return Run.load(table.records[row, 0].outcome.facts["run"])


def rows(root: Path) -> list[dict[str, Any]]:
    return [
        {"name": "bm25", "method": {"name": "bm25", "text": str(root / "text.jsonl"), "stop_words": "none"}},
        {"name": "clip", "method": "text-only", "backbone": str(root / "clip")},
        {"name": "rrf", "method": {"name": "hybrid", "of": ["bm25", "clip"]}},
        {
            "name": "sum",
            "method": {"name": "hybrid", "of": ["clip", "bm25"], "fuse": "weighted", "weights": [1, 3]},
        },
    ]


def test_words_pages_and_hybrids_in_one_table(root: Path, tmp_path: Path) -> None:
    table = ran(tmp_path, rows(root))
    assert table.reasons == {}
    bm25, clip = run_of(table, "bm25"), run_of(table, "clip")
    assert bm25.ranking("c0")[0][0] == "standard.pdf#0"
    assert table.records["bm25", 0].means["recall@1"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert len(clip.ranking("c0")) == 5
    for name, wanted in (
        ("rrf", fuse_ranks([bm25, clip], 50)),
        ("sum", fuse_scores([clip, bm25], 50, weights=[1, 3])),
    ):
        assert run_of(table, name).ranking("c1") == wanted.ranking("c1")
    assert table.records["bm25", 0].description["backbone"] == {}


def test_a_hybrid_follows_the_rows_it_is_of(root: Path, tmp_path: Path) -> None:
    first = ran(tmp_path, rows(root))
    again = ran(tmp_path, rows(root))
    assert {key: item.finished for key, item in again.records.items()} == {
        key: item.finished for key, item in first.records.items()
    }
    changed = rows(root)
    changed[0]["method"] |= {"k1": 2.0}
    other = ran(tmp_path, changed)
    assert other.records["rrf", 0].identity != first.records["rrf", 0].identity
    assert other.records["clip", 0].identity == first.records["clip", 0].identity


def test_a_hybrid_waits_for_its_rows(root: Path, tmp_path: Path) -> None:
    table = run_table(spec(tmp_path, rows(root)), run_cell, tmp_path / "runs", only=["rrf"])
    assert table.reasons["rrf", 0] == "it is made of bm25, which has no run."
    with pytest.raises(InputError, match="its method is of 'clip', which is no row above it"):
        spec(tmp_path, [rows(root)[0], rows(root)[2], rows(root)[1]])
    other = rows(root)
    other[1]["benchmark"] = "contoso-within"
    with pytest.raises(InputError, match="its method is of 'clip', a row of contoso-within, not contoso"):
        spec(tmp_path, other)


def test_a_hybrid_of_trained_rows_has_their_seeds(root: Path, tmp_path: Path) -> None:
    trained = rows(root)
    trained[1]["train"] = {"config": "x.yaml"}
    table = spec(tmp_path, trained, seeds=2)
    assert [table.seeds_of(row) for row in table.rows] == [(0,), (0, 1), (0, 1), (0, 1)]


def test_several_benchmarks_within_and_over_the_whole_pool(root: Path, tmp_path: Path) -> None:
    places = {
        "within": {"benchmark": "contoso-within", "split": "test", "metrics": ["ndcg@5"]},
        "pool": {"benchmark": "contoso", "split": "test", "metrics": ["ndcg@5"]},
    }
    only = {"benchmark": None, "split": None, "metrics": None}
    again = {
        "name": "again",
        "method": {"name": "rerank", "of": "bm25", "scorer": "tests.test_run_methods:by_length"},
    }
    table = ran(tmp_path, [*rows(root), again], benchmarks=places, **only)
    assert table.reasons == {}
    pools = load_benchmark("contoso-within", "test").pools
    for name in ("bm25", "clip", "rrf", "sum"):
        assert {document for document, _ in run_of(table, f"{name}@within").ranking("c2")} <= set(pools["c2"])
    assert len(run_of(table, "clip@pool").ranking("c2")) == 5
    kept = [pair for pair in run_of(table, "bm25@pool").ranking("c2") if pair[0] in pools["c2"]]
    assert run_of(table, "bm25@within").ranking("c2") == kept
    assert table.records["bm25@within", 0].outcome.protocol["gallery"] == "document"


def test_answers_are_matched_in_the_benchmark_s_own_texts(tmp_path: Path) -> None:
    metrics = ["answer_accuracy@1", "answer_accuracy@2"]
    table = ran(tmp_path, [{"name": "bm25", "method": "bm25"}], benchmark="wiki-ss-nq", metrics=metrics)
    assert table.reasons == {}
    record = table.records["bm25", 0]
    assert list(record.outcome.query_ids) == ["1", "2", "3"]
    assert record.outcome.per_query["answer_accuracy@1"].tolist() == [1, 0, 0]


def by_length(benchmark: Benchmark) -> Callable[[str, Sequence[str]], list[int]]:
    """A scorer for the test: longer names first, and later letters before earlier ones."""
    assert benchmark.name.startswith("contoso")
    return lambda query, documents: [len(document) for document in documents]


def test_the_first_documents_are_ranked_again(root: Path, tmp_path: Path) -> None:
    again = {"name": "rerank", "of": "clip", "top": 4, "scorer": "tests.test_run_methods:by_length"}
    table = ran(
        tmp_path, [rows(root)[1], {"name": "again", "method": again}], metrics=["recall@1", "recall@3"]
    )
    assert table.reasons == {}
    clip, found = run_of(table, "clip"), run_of(table, "again")
    first = [document for document, _ in clip.ranking("c0")[:4]]
    assert [document for document, _ in found.ranking("c0")] == sorted(
        first, key=lambda name: (-len(name), name)
    )


def test_text_encoders_share_a_store_and_cross_encoders_rerank(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="dense text needs sentence-transformers")
    from tests.text_search.tiny_text_models import write_cross_encoder, write_encoder

    encoder, cross = str(write_encoder(tmp_path)), str(write_cross_encoder(tmp_path))
    text = str(root / "text.jsonl")
    wanted = [
        {"name": "dense", "method": {"name": "dense-text", "model": encoder, "text": text}},
        {"name": "within", "base": "dense", "benchmark": "contoso-within"},
        {
            "name": "cross",
            "method": {"name": "rerank", "of": ["dense"], "top": 5, "model": cross, "text": text},
        },
    ]
    table = ran(tmp_path, wanted)
    assert table.reasons == {}
    assert len(list((tmp_path / "runs/stores").glob("text-*"))) == 1
    assert len(run_of(table, "dense").ranking("c0")) == 5
    assert len(run_of(table, "within").ranking("c0")) == 3
    assert np.isfinite(list(table.records["cross", 0].means.values())).all()


def hybrid(**options: Any) -> dict[str, Any]:
    return {"name": "hybrid", "of": ["clip", "clip"], **options}


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("bm25", "contoso brings no texts: name a file of `mmret pages text`"),
        ({"name": "bm25", "text": "none.jsonl"}, "There is no file none.jsonl, neither here nor beside"),
        ({"name": "bm25", "k3": 1}, "The method bm25 has no option 'k3'; it has text, k1"),
        ("dense-text", "needs a model of sentence-transformers"),
        ("hybrid", "needs the rows that it is of"),
        ({"name": "rerank", "of": ["clip"]}, "needs a model (a cross-encoder) or a scorer"),
        ({"name": "rerank", "of": ["clip"], "scorer": "nowhere:x"}, "There is no scorer nowhere:x"),
        (
            {"name": "rerank", "of": ["clip"], "scorer": "x:y", "text": "spoken"},
            "text and revision for a model; a scorer has its own",
        ),
        ({"name": "bm25", "k1": "0.9"}, "Row bad: k1 is '0.9', where a number of 0 or more is needed."),
        ({"name": "bm25", "k1": None}, "k1 is None, where a number of 0 or more is needed"),
        ({"name": "bm25", "k1": math.nan}, "k1 is nan, where a number of 0 or more is needed"),
        ({"name": "bm25", "b": True}, "b is True, where a number from 0 to 1 is needed"),
        ({"name": "bm25", "b": 1.5}, "b is 1.5, where a number from 0 to 1 is needed"),
        ({"name": "bm25", "stemmer": 3}, "stemmer is 3, where a text is needed"),
        ({"name": "dense-text", "model": 7}, "model is 7, where a text is needed"),
        ({"name": "dense-text", "model": "x", "batch_size": 0}, "batch_size is 0, where a whole number of 1"),
        (hybrid(fuse="max"), "Row bad: fuse is 'max', where rrf or weighted is needed."),
        (hybrid(fuse=["rrf"]), "fuse is ['rrf'], where rrf or weighted is needed"),
        (hybrid(constant="60"), "constant is '60', where a number of 0 or more is needed"),
        (hybrid(weights=["a", "b"]), "weights is ['a', 'b'], where a list of numbers of 0 or more is needed"),
        (hybrid(weights="12"), "weights is '12', where a list of numbers of 0 or more is needed"),
        (hybrid(weights=[1]), "The weights of a hybrid are [1]; one of 0 or more for each run is needed"),
        (hybrid(fuse="weighted", constant=60), "constant is of reciprocal ranks (rrf), and fuse is weighted"),
        ({"name": "rerank", "of": ["clip"], "top": 5.0}, "top is 5.0, where a whole number of 1 or more"),
        (
            {"name": "rerank", "of": ["clip"], "top": 4, "scorer": "tests.test_run_methods:by_length"},
            "Row bad ranks the first 4 documents again, and ndcg@5 looks at 5: give top 5 or more.",
        ),
    ],
)
def test_what_cannot_be_run_says_why(method: Any, reason: str, root: Path, tmp_path: Path) -> None:
    table = ran(tmp_path, [rows(root)[1], {"name": "bad", "method": method}])
    assert reason in table.reasons["bad", 0]


def test_weights_that_were_trained_again_are_another_cell(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="dense text needs sentence-transformers")
    from tests.text_search.tiny_text_models import write_cross_encoder, write_encoder

    encoder, cross = write_encoder(tmp_path / "dense"), write_cross_encoder(tmp_path / "cross")
    text = str(root / "text.jsonl")
    methods = {
        "dense": {"name": "dense-text", "model": str(encoder), "text": text},
        "cross": {"name": "rerank", "of": ["dense"], "model": str(cross), "text": text},
    }
    wanted = [{"name": name, "method": method} for name, method in methods.items()]
    assert (before := ran(tmp_path, wanted)).reasons == {}
    assert ran(tmp_path, wanted).records["cross", 0].finished == before.records["cross", 0].finished
    _train_again(cross)
    after = ran(tmp_path, wanted)
    assert after.records["dense", 0].identity == before.records["dense", 0].identity
    assert after.records["cross", 0].identity != before.records["cross", 0].identity
    _train_again(encoder)
    last = ran(tmp_path, wanted)
    assert last.records["dense", 0].identity != after.records["dense", 0].identity
    assert run_of(last, "dense").ranking("c0") != run_of(after, "dense").ranking("c0")


def _train_again(folder: Path) -> None:
    """Other weights under the same name."""
    [path] = folder.rglob("model.safetensors")
    state = load_file(path)
    generator = torch.Generator().manual_seed(3)
    changed = {key: value + torch.randn(value.shape, generator=generator) for key, value in state.items()}
    save_file(changed, path, metadata={"format": "pt"})


def test_a_text_layer_of_other_pages_is_refused(root: Path, tmp_path: Path) -> None:
    lines = (root / "text.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "part.jsonl").write_text("".join(lines[1:]))
    table = ran(tmp_path, [{"name": "bm25", "method": {"name": "bm25", "text": "part.jsonl"}}])
    assert "has no text for 1 of 5 documents" in table.reasons["bm25", 0]


def test_other_texts_of_a_benchmark_are_asked_for_by_name() -> None:
    benchmark = load_benchmark("miniature-pages-picture", "val")
    layer, described = (
        dict(gallery_texts(options, benchmark).read()) for options in ({}, {"text": "described"})
    )
    assert layer.keys() == described.keys() and not any("chart" in text for text in layer.values())
    assert sum("chart" in text for text in described.values()) > 100
    with pytest.raises(InputError, match=r"no file of texts spoken\.jsonl"):
        gallery_texts({"text": "spoken.jsonl"}, benchmark)


def test_answers_that_a_set_lacks_are_missed_before_anything_is_encoded(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmret.experiment.encode_benchmark", None)
    table = ran(tmp_path, rows(root)[1:2], metrics=["answer_accuracy@1"])
    [row] = table.rows
    assert row.reason.startswith("contoso test has no answers, which answer_accuracy@1 looks for in pages")
