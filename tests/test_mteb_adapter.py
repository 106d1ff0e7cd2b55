"""Parity with MTEB's own numbers on a small task in memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmret.backbones import load_backbone
from mmret.composition import composer_from_spec
from mmret.corridor import compose, query_vectors, rank_queries
from mmret.data import load_benchmark
from mmret.encoded_benchmark import encode_benchmark
from mmret.errors import InputError
from mmret.judging import evaluate_run
from mmret.retrieval.run import Run
from tests.data.page_layouts import tables, write_parquet
from tests.data.published_layouts import say_trimmed
from tests.methods.toy_data import write_backbone

mteb = pytest.importorskip("mteb", reason="the adapter needs mteb (extra `mteb`)")
pytestmark = pytest.mark.slow  # importing mteb takes seconds

from mmret.mteb_adapter import MtebEncoder, MtebSearch  # noqa: E402


def page_rows() -> dict[str, list[dict[str, Any]]]:
    """Sixteen pages, two of them the same picture, and nine questions of one to three graded pages."""
    rows = tables()
    rows["corpus"][5]["image"] = rows["corpus"][4]["image"]
    words = ("red", "green", "blue", "white", "square", "disc", "bar", "page", "which")
    rows["queries"] = [{"query-id": f"q{n}", "query": f"{word} picture {n}"} for n, word in enumerate(words)]
    rows["qrels"] = [
        {"query-id": f"q{n}", "corpus-id": (5 * n + step) % 16, "score": 1 + step % 2}
        for n in range(len(words))
        for step in range(1 + n % 3)
    ]
    return rows


def task_in_memory(reranked: bool = False) -> Any:
    """The same as a task of MTEB."""
    from datasets import Dataset, Features, Image, Value
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
    from mteb.mocks.mock_tasks.retrieval import MockAny2AnyRetrievalT2ITask

    rows = page_rows()

    class Pages(AbsTaskRetrieval):
        metadata = MockAny2AnyRetrievalT2ITask.metadata.model_copy(update={"name": "MockPages"})

        def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
            corpus = [{"id": f"{row['corpus-id']}", "image": row["image"]} for row in rows["corpus"]]
            queries = [{"id": row["query-id"], "text": row["query"]} for row in rows["queries"]]
            relevant: dict[str, dict[str, int]] = {}
            for row in rows["qrels"]:
                relevant.setdefault(row["query-id"], {})[f"{row['corpus-id']}"] = row["score"]
            split = RetrievalSplitData(
                corpus=Dataset.from_list(
                    corpus, features=Features({"id": Value("string"), "image": Image()})
                ),
                queries=Dataset.from_list(queries),
                relevant_docs=relevant,
                top_ranked={row["id"]: [f"{n}" for n in range(0, 16, 3)] for row in queries}
                if reranked
                else None,
            )
            self.dataset, self.data_loaded = {"default": {"test": split}}, True

    return Pages()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> MtebEncoder:
    return MtebEncoder(
        load_backbone(str(write_backbone(tmp_path_factory.mktemp("mteb") / "clip"))), "mmret/tiny"
    )


def scores(model: Any, task: Any, folder: Path | None = None) -> dict[str, float]:
    found = mteb.evaluate(model, task, cache=None, show_progress_bar=False, prediction_folder=folder)
    measured: dict[str, float] = found.task_results[0].scores["test"][0]
    return measured


def test_mteb_and_we_agree(encoder: MtebEncoder, tmp_path: Path) -> None:
    """MTEB's search and ours, MTEB's measure and ours, MTEB's reading of the pages and ours."""
    theirs, ours = scores(encoder, task_in_memory()), scores(MtebSearch(encoder), task_in_memory())
    root = say_trimmed(tmp_path / "pages")
    for name, rows in page_rows().items():
        write_parquet(root / name / "test.parquet", rows)
    benchmark = load_benchmark(f"tables:{root}", "test")
    encoded = encode_benchmark(encoder.backbone, benchmark)
    queries = query_vectors(compose(encoder.backbone, encoded, composer_from_spec("text-only")))
    run = rank_queries(queries, encoded).run
    assert run.ties >= 9  # the two equal pages, for every question
    names = {"ndcg@5": "ndcg_at_5", "ndcg@10": "ndcg_at_10", "recall@5": "recall_at_5", "map@10": "map_at_10"}
    measured = evaluate_run(descending(run), benchmark, metrics=list(names)).means
    for name, other in names.items():
        assert ours[other] == pytest.approx(theirs[other], abs=1e-5), name
        assert measured[name] == pytest.approx(ours[other], abs=1e-5), name
    ascending, other = (evaluate_run(each, benchmark, metrics=["ndcg@16"]) for each in (run, descending(run)))
    assert ascending.means != other.means  # so the ties are there to be seen


def descending(run: Run) -> Run:
    """The run with equal scores in descending order of id, as MTEB's measure has them."""
    indices = run.indices.copy()
    for row in range(len(indices)):
        names = [run.document_ids[place] for place in indices[row] if place >= 0]
        pairs = sorted(zip(run.scores[row], names, strict=False), reverse=True)
        indices[row, : len(pairs)] = [run.document_ids.index(name) for _, name in pairs]
    return Run(run.query_ids, run.document_ids, indices, run.scores)


def test_a_list_that_is_to_be_ranked_again_bounds_the_search(encoder: MtebEncoder) -> None:
    theirs, ours = (scores(model, task_in_memory(reranked=True)) for model in (encoder, MtebSearch(encoder)))
    assert ours["ndcg_at_10"] == pytest.approx(theirs["ndcg_at_10"], abs=1e-5)
    assert ours["ndcg_at_10"] != pytest.approx(scores(encoder, task_in_memory())["ndcg_at_10"], abs=1e-3)


def test_what_mteb_asks_of_an_encoder_is_there(encoder: MtebEncoder) -> None:
    from mteb.models import EncoderProtocol, SearchProtocol

    assert isinstance(encoder, EncoderProtocol)
    assert isinstance(MtebSearch(encoder), SearchProtocol)
    assert encoder.mteb_model_meta.name == "mmret/tiny"
    assert encoder.mteb_model_meta.revision == encoder.backbone.spec.revision
    assert MtebEncoder(encoder.backbone).name.count("/") == 1


def test_several_vectors_an_input_are_refused_before_a_task_begins(tmp_path: Path) -> None:
    folder = write_backbone(tmp_path / "clip")
    with pytest.raises(InputError, match="gives several vectors an input, and MTEB's tasks take one here"):
        MtebEncoder.load(str(folder), preprocess="crops-2x1-each")
    assert MtebEncoder.load(str(folder), preprocess="crops-2x1").name.startswith("mmret/")


def test_texts_images_and_both(encoder: MtebEncoder) -> None:
    from PIL import Image

    where = {"task_metadata": None, "hf_split": "test", "hf_subset": "default"}
    text, image = {"text": ["a", "b"]}, {"image": [Image.new("RGB", (9, 9), "red"), Image.new("L", (5, 7))]}
    words, pictures = encoder.encode([text], **where), encoder.encode([image], **where)
    assert np.allclose(encoder.encode([text | image], **where), words + pictures, atol=1e-6)
    assert np.allclose(
        encoder.similarity_pairwise(words, pictures), np.diag(encoder.similarity(words, pictures)), atol=1e-5
    )
    with pytest.raises(InputError, match="holds audio; this encoder needs text or image"):
        encoder.encode([{"audio": [1]}], **where)
    with pytest.raises(InputError, match="has no corpus; call index first"):
        MtebSearch(encoder).search({"id": []}, top_k=1, encode_kwargs={}, **where)
