"""Text queries over page images, from a folder benchmark through the corridor and through a table."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmret.backbones import load_backbone
from mmret.composition import ImageOnly, Sum, TextOnly
from mmret.corridor import compose, query_vectors, rank_queries
from mmret.data import load_benchmark
from mmret.embedding import embed_documents, embed_images, embed_texts, open_store
from mmret.encoded_benchmark import encode_benchmark
from mmret.errors import InputError
from mmret.retrieval.multi_vectors import StoredMultiVectors
from tests.backbones.tiny_pages import FAMILIES
from tests.data.page_layouts import write_tables


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FAMILIES["qwen2_vl"](tmp_path_factory.mktemp("model") / "qwen")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pages of many sizes, asked for in words."""
    root = tmp_path_factory.mktemp("benchmark")
    (root / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(9):
        pixels = rng.integers(0, 255, (20 + 7 * number, 40 - 3 * number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"page{number}.png")
    queries = [
        {"id": f"q{n}", "text": f"where is number {n}?", "targets": [f"page{n}.png"], "split": "test"}
        for n in range(4)
    ]
    (root / "queries.jsonl").write_text("".join(json.dumps(query) + "\n" for query in queries))
    (root / "folder.json").write_text(
        json.dumps({"name": "pages", "version": "1", "protocol": {"preprocess": "own"}})
    )
    return root


@pytest.mark.parametrize("options", ["", "?pooling=tokens", "?pooling=tokens-2&width=7"])
def test_the_corridor_takes_text_queries_over_pages(
    model: Path, pages: Path, tmp_path: Path, options: str
) -> None:
    backbone = load_backbone(f"vlm:{model}{options}", preprocess="own")
    benchmark = load_benchmark(f"folder:{pages}", "test")
    runs = []
    for _ in range(2):  # the second time from the store
        encoded = encode_benchmark(backbone, benchmark, tmp_path)
        runs.append(rank_queries(query_vectors(compose(backbone, encoded, TextOnly())), encoded))
    assert np.array_equal(runs[0].run.indices, runs[1].run.indices)
    assert np.allclose(runs[0].run.scores, by_hand(backbone, benchmark, runs[0].run), atol=1e-3)
    assert set(runs[0].evaluation.means) == set(benchmark.metrics)


def by_hand(backbone, benchmark, run):  # type: ignore[no-untyped-def]
    """The scores of the run's rankings, from one query and one page at a time."""

    def unit(features):  # type: ignore[no-untyped-def]
        vectors = features if isinstance(features, torch.Tensor) else features.vectors
        return torch.nn.functional.normalize(vectors, dim=-1)

    with torch.no_grad():
        asked = [unit(backbone.encode_queries(backbone.tokenize(query.texts))) for query in benchmark.queries]
        found = {
            name: unit(backbone.encode_documents([backbone.transform.pixels(benchmark.images.read(name))]))
            for name in benchmark.gallery
        }
    scores = np.full(run.scores.shape, -np.inf)
    for row, query in enumerate(benchmark.queries):
        for place, (name, _) in enumerate(run.ranking(query.id)):
            scores[row, place] = (asked[row] @ found[name].T).max(dim=1).values.sum()
    return np.where(np.isfinite(scores), scores, run.scores)


def test_what_needs_one_vector_says_so(model: Path, pages: Path) -> None:
    backbone = load_backbone(f"vlm:{model}?pooling=tokens")
    benchmark = load_benchmark(f"folder:{pages}", "test")
    with pytest.raises(InputError, match="where one an image is needed"):
        embed_images(backbone, benchmark.images)
    with pytest.raises(InputError, match="where one a text is needed"):
        embed_texts(backbone, ["a"])
    encoded = encode_benchmark(backbone, benchmark)
    with pytest.raises(InputError, match="use text-only"):
        compose(backbone, encoded, Sum())
    with pytest.raises(InputError, match="several vectors"):
        _ = encoded.index
    with pytest.raises(InputError, match="no reference image"):
        compose(backbone, encoded, ImageOnly())


def test_several_vectors_resume_from_their_store(model: Path, pages: Path, tmp_path: Path) -> None:
    backbone = load_backbone(f"vlm:{model}?pooling=tokens")
    images = load_benchmark(f"folder:{pages}", "test").images
    ids = list(images.ids)
    embed_documents(backbone, images, ids[:4], store=open_store(tmp_path / "s", backbone), progress=False)
    store = open_store(tmp_path / "s", backbone)
    assert store.missing(ids, [images.stamp(name) for name in ids]) == ids[4:]
    found = embed_documents(backbone, images, store=store, progress=False)
    assert isinstance(found, StoredMultiVectors) and len(found) == 9 and store.dtype == "float16"
    with pytest.raises(InputError, match="was made with"):
        open_store(tmp_path / "s", load_backbone(f"vlm:{model}"))


def test_a_page_that_cannot_be_read_is_named(model: Path, pages: Path) -> None:
    backbone = load_backbone(f"vlm:{model}?pooling=tokens")
    images = load_benchmark(f"folder:{pages}", "test").images
    bad = pages / "images" / "page8.png"
    whole = bad.read_bytes()
    bad.write_bytes(whole[: len(whole) // 2])
    try:
        with pytest.raises(InputError, match=r"1 of 9 images cannot be used: .*page8\.png is damaged"):
            embed_documents(backbone, images, progress=False)
    finally:
        bad.write_bytes(whole)


@pytest.mark.parametrize("benchmark", ["folder:{pages}", "vidore-v1-arxivqa"])
def test_a_table_takes_a_page_encoder(
    benchmark: str, model: Path, pages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml

    from mmret.experiment import run_cell
    from mmret.tables import load_spec, run_table

    monkeypatch.setenv("MMRET_DATA", str(tmp_path))
    write_tables(tmp_path / "vidore/arxivqa_test_subsampled")
    table = {
        "name": "pages", "title": "Pages", "benchmark": benchmark.format(pages=pages), "split": "test",
        "metrics": ["success@1", "recall@5"],
        "rows": [
            {"name": "last", "label": "last token", "method": "text-only", "backbone": f"vlm:{model}"},
            {"name": "tokens", "label": "MaxSim", "method": "text-only", "backbone": f"vlm:{model}?pooling=tokens-2"},
        ],
    }  # fmt: skip
    (tmp_path / "pages.yaml").write_text(yaml.safe_dump(table))
    markdown = run_table(load_spec(tmp_path / "pages.yaml"), run_cell, tmp_path / "runs").to_markdown()
    assert "not run" not in markdown and "MaxSim" in markdown
    assert len(list((tmp_path / "runs").rglob("*.seed0.*.run.npz"))) == 2
