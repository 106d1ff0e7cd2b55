from pathlib import Path

import numpy as np
import pytest

from mmret.errors import InputError
from mmret.retrieval.index import Index
from mmret.retrieval.store import EmbeddingStore
from mmret.text_search.cross_encoder import TextPairScorer
from mmret.text_search.dense import DenseText, TextEncoder

transformers = pytest.importorskip("sentence_transformers", reason="dense text needs sentence-transformers")

from tests.text_search.tiny_text_models import write_cross_encoder, write_encoder  # noqa: E402

TEXTS = {"a": "the copay is 20", "b": "the deductible is 500", "c": "the network"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def encoder(model: Path) -> TextEncoder:
    return DenseText(str(model)).load(device="cpu")


def test_the_model_s_own_prompts_or_those_that_are_given(model: Path, encoder: TextEncoder) -> None:
    bare = DenseText(str(model), query_prompt="", document_prompt="").load(device="cpu")
    given = DenseText(str(model), query_prompt="passage : ").load(device="cpu")
    asked, plain = encoder.encode_queries(["copay"]), bare.encode_queries(["copay"])
    assert asked.shape == (1, 16)
    assert np.allclose(asked, bare.encode_queries(["query : copay"]), atol=1e-5)
    assert not np.allclose(asked, plain, atol=1e-2)
    assert np.allclose(given.encode_queries(["copay"]), encoder.encode_documents(["copay"]), atol=1e-5)
    assert encoder.fingerprint()["prompt"] == "passage : " != bare.fingerprint()["prompt"]


def test_only_new_and_changed_texts_are_encoded(
    tmp_path: Path, encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = EmbeddingStore.open(tmp_path / "store", encoder.fingerprint())
    encoder.embed(TEXTS.items(), store)
    before = store.vectors(list(TEXTS))
    asked: list[str] = []
    real = TextEncoder.encode_documents
    monkeypatch.setattr(
        TextEncoder, "encode_documents", lambda self, texts: asked.extend(texts) or real(self, texts)
    )
    changed = {**TEXTS, "b": "what is 500", "d": "plan"}
    encoder.embed(changed.items(), store)
    assert asked == ["what is 500", "plan"]
    after = store.vectors(list(changed))
    assert np.array_equal(after[[0, 2]], before[[0, 2]])
    assert not np.allclose(after[1], before[1])


def test_search_is_by_cosine_similarity(encoder: TextEncoder) -> None:
    vectors = encoder.encode_documents(list(TEXTS.values()))
    run = encoder.search(Index(list(TEXTS), vectors), {"q": "what is the copay"}, 3)
    query = encoder.encode_queries(["what is the copay"])[0]
    cosine = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    assert [name for name, _ in run.ranking("q")] == [list(TEXTS)[row] for row in np.argsort(-cosine)]
    assert [score for _, score in run.ranking("q")] == pytest.approx(sorted(cosine, reverse=True), abs=1e-5)


def test_a_cross_encoder_reads_query_and_text_together(tmp_path: Path) -> None:
    name = str(write_cross_encoder(tmp_path))
    scorer = TextPairScorer.load(name, {"q": "what is the copay"}, TEXTS)
    scores = scorer("q", ["b", "a"])
    model = transformers.CrossEncoder(name)
    wanted = [model.predict(("what is the copay", TEXTS[id])) for id in "ba"]
    assert scores == pytest.approx(np.array(wanted), abs=1e-5)
    assert scores[0] != scores[1]


def test_models_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="The text encoder nobody/nothing cannot be loaded"):
        DenseText("nobody/nothing").load()
    with pytest.raises(InputError, match="The cross-encoder nobody/nothing cannot be loaded"):
        TextPairScorer.load("nobody/nothing", {}, {})
