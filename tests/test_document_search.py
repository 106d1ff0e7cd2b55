import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mmret
from mmret.backbones import load_backbone
from mmret.display import PAGE_SIDE, thumbnail
from mmret.document_search import SearchableDocuments, open_documents
from mmret.embedding import embed_documents, embed_queries
from mmret.errors import InputError
from mmret.pages.documents import list_documents
from mmret.pages.render import render_documents
from mmret.pages.settings import RenderSettings, Sizing
from mmret.pages.sources import DocumentPages
from mmret.retrieval.multi_vectors import MultiVectors
from mmret.retrieval.run import Run
from tests.backbones.tiny_models import VISION, write_model
from tests.backbones.tiny_pages import FAMILIES
from tests.pages.pdf_files import make_pdf, write_failing

PLAN = ["the plan", "balance billing", "the network", "billing of the plan"]
NOTES = ["a meeting", "balance of the year"]
SETTINGS = RenderSettings(sizing=Sizing(longest_side=64))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model("clip", tmp_path_factory.mktemp("backbones") / "clip"))


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"vlm:{FAMILIES['colqwen2'](tmp_path_factory.mktemp('backbones') / 'late')}"


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    (root / "plans").mkdir(parents=True)
    (root / "plans" / "handbook.pdf").write_bytes(make_pdf(PLAN))
    (root / "notes.pdf").write_bytes(make_pdf(NOTES))
    Image.new("RGB", (40, 60), "red").save(root / "scan.png")
    return root


def opened(root: Path, backbone: str | None) -> SearchableDocuments:
    return open_documents(root, backbone, settings=SETTINGS, device="cpu", progress=False)


def ranking(found: Run | tuple[tuple[str, float], ...]) -> list[str]:
    return [name for name, _ in found]  # type: ignore[union-attr]


ALL = [*(f"plans/handbook.pdf#{page}" for page in range(4)), "notes.pdf#0", "notes.pdf#1", "scan.png#0"]


def test_a_page_is_ranked_by_its_cosine_with_the_question(docs: Path, clip: str) -> None:
    documents = opened(docs, clip)
    hits = dict(documents.search("red dog").hits)
    model = load_backbone(clip)
    pages = torch.tensor(np.asarray(embed_documents(model, documents.pages, ALL, progress=False)))
    query = torch.tensor(np.asarray(embed_queries(model, ["red dog"])))
    expected = torch.nn.functional.cosine_similarity(pages, query).tolist()
    assert [hits[id] for id in ALL] == pytest.approx(expected, abs=1e-5)
    assert sorted(hits.values(), reverse=True) == list(hits.values())


def test_several_vectors_a_page_are_ranked_by_maxsim(docs: Path, late: str) -> None:
    documents = opened(docs, late)
    hits = dict(documents.search("red dog").hits)
    query = embed_queries(documents.backbone, ["red dog"])  # type: ignore[arg-type]
    page = embed_documents(documents.backbone, documents.pages, ["notes.pdf#1"], progress=False)  # type: ignore[arg-type]
    assert isinstance(query, MultiVectors)
    assert isinstance(page, MultiVectors)
    best = (query.vectors @ page.vectors.T).max(axis=1).sum()
    assert hits["notes.pdf#1"] == pytest.approx(best, rel=2e-3)  # kept in half precision
    assert set(hits) == set(ALL)
    assert str(opened(docs, late).changes) == "nothing new"


def test_words_are_searched_without_a_model(docs: Path) -> None:
    documents = opened(docs, None)
    assert ranking(documents.search("balance billing").hits)[0] == "plans/handbook.pdf#1"
    # Only pages that hold a word of the question.
    assert sorted(ranking(documents.search("balance billing").hits)) == [
        "notes.pdf#1", "plans/handbook.pdf#1", "plans/handbook.pdf#3"
    ]  # fmt: skip
    assert "words alone" in repr(documents)
    with pytest.raises(InputError, match="A hybrid needs a backbone"):
        documents.search("balance", hybrid=True)


def test_a_hybrid_adds_reciprocal_ranks_of_looks_and_words(docs: Path, clip: str) -> None:
    documents = opened(docs, clip)
    looks = ranking(documents.search("balance billing").hits)
    words = ranking(documents.search("balance billing", words_only=True).hits)
    expected = {id: sum(1 / (61 + found.index(id)) for found in (looks, words) if id in found) for id in ALL}
    fused = documents.search("balance billing", hybrid=True)
    assert dict(fused.hits) == pytest.approx(expected)
    weighted = documents.search("balance billing", hybrid="weighted")
    assert dict(weighted.hits)["plans/handbook.pdf#1"] >= 1  # the first by words, and what its looks add
    assert len(documents.search("balance billing", hybrid=True, k=2).hits) == 2


def test_one_document_is_searched_alone(docs: Path, clip: str, late: str) -> None:
    for backbone in (clip, late):
        documents = opened(docs, backbone)
        for how in ({}, {"hybrid": True}, {"words_only": True}):
            hits = documents.search("balance", within="notes.pdf", **how).hits  # type: ignore[arg-type]
            assert {name.split("#")[0] for name, _ in hits} == {"notes.pdf"}
    with pytest.raises(InputError, match=r"no document note\.pdf .*nearest names are notes\.pdf"):
        documents.search("balance", within="note.pdf")


class Counted(DocumentPages):
    """Counts the pages that are drawn."""

    drawn: int = 0

    def _draw(self, id: str) -> Image.Image:
        Counted.drawn += 1
        return super()._draw(id)


def test_what_did_not_change_is_neither_drawn_nor_read_again(
    docs: Path, clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmret.document_search.DocumentPages", Counted)
    monkeypatch.setattr(Counted, "drawn", 0)
    assert str(opened(docs, clip).changes) == "7 added"
    assert Counted.drawn == 7
    assert str(opened(docs, clip).changes) == "nothing new"
    assert Counted.drawn == 7
    (docs / "notes.pdf").write_bytes(make_pdf(["a meeting", "balance sheets", "more"]))
    (docs / "scan.png").unlink()
    documents = opened(docs, clip)
    assert str(documents.changes) == "1 added, 2 changed, 1 deleted"
    assert Counted.drawn == 10
    assert "scan.png#0" not in documents._store.ids
    assert ranking(documents.search("sheets", words_only=True).hits) == ["notes.pdf#1"]


def test_pages_drawn_otherwise_are_embedded_again(docs: Path, clip: str) -> None:
    opened(docs, clip)
    other = RenderSettings(sizing=Sizing(longest_side=96))
    again = open_documents(docs, clip, settings=other, device="cpu", progress=False)
    assert str(again.changes) == "7 changed"


def test_the_text_of_changed_documents_alone_is_read_again(
    docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(docs, None).search("balance")
    read: list[int] = []
    monkeypatch.setattr("mmret.pages.pdf.page_text", lambda _, number: read.append(number) or "balance")
    (docs / "notes.pdf").write_bytes(make_pdf(["changed"]))
    assert len(opened(docs, None).search("balance").hits) == 2
    assert read == [0]


def test_one_file_leaves_its_neighbours_in_the_store(docs: Path, clip: str) -> None:
    opened(docs, clip)
    documents = opened(docs / "notes.pdf", clip)
    assert str(documents.changes) == "nothing new"
    assert ranking(documents.search("balance", hybrid=True).hits)[0] == "notes.pdf#1"
    assert set(ranking(documents.search("balance").hits)) == {"notes.pdf#0", "notes.pdf#1"}
    assert str(opened(docs, clip).changes) == "nothing new"


def test_failures_are_named_once_and_the_rest_goes_on(docs: Path, clip: str) -> None:
    causes = write_failing(docs)
    documents = opened(docs, clip)
    documents.search("balance", hybrid=True)
    found = {failure.file: (failure.page, failure.cause) for failure in documents.failures}
    # At 64 pixels no page is too large.
    assert found == {file: cause for file, cause in causes.items() if file != "giant.pdf"}
    assert len(documents.failures) == len(found)
    assert "null.pdf#0" in ranking(documents.search("balance", k=50).hits)
    assert "null.pdf#1" not in ranking(documents.search("balance", k=50).hits)


def test_a_page_that_is_too_large_is_named_with_its_cause(docs: Path, clip: str) -> None:
    write_failing(docs)
    settings = RenderSettings(sizing=Sizing(dpi=150), max_pixels=2_000_000)
    documents = open_documents(docs, clip, settings=settings, device="cpu", progress=False)
    assert {f.file: f.page for f in documents.failures if f.cause == "too large"} == {"giant.pdf": 1}


def test_rendered_pages_are_documents_with_the_words_of_ocr_beside_them(
    docs: Path, clip: str, tmp_path: Path
) -> None:
    out = tmp_path / "pages"
    render_documents(list_documents(docs), out, SETTINGS, workers=0)
    documents = opened(out, clip)
    assert dict(documents.search("red dog").hits) == pytest.approx(
        dict(opened(docs, clip).search("red dog").hits)
    )
    with pytest.raises(InputError, match="only PDFs have a text layer"):
        documents.search("red dog", words_only=True)
    (out / "ocr.jsonl").write_text(
        '{"id": "scan.png#0", "text": "red dog"}\n{"id": "gone.pdf#0", "text": "red"}\n'
    )
    assert ranking(opened(out, clip).search("red dog", words_only=True).hits) == ["scan.png#0"]
    texts = open_documents(docs, None, texts=out / "ocr.jsonl", progress=False)
    assert ranking(texts.search("red").hits) == ["scan.png#0"]
    (tmp_path / "other.jsonl").write_text('{"id": "gone.pdf#0", "text": "red"}\n')
    with pytest.raises(InputError, match="holds no text of a page"):
        open_documents(docs, None, texts=tmp_path / "other.jsonl", progress=False).search("red")


def test_a_result_names_pages_for_people_and_shows_itself(docs: Path) -> None:
    result = opened(docs, None).search("billing plan", k=1)
    [hit] = result.pages
    assert (hit.rank, hit.file, hit.page) == (1, "plans/handbook.pdf", 3)
    assert hit.place == "plans/handbook.pdf  page 4 (#3)"
    assert repr(result).startswith("PageSearchResult('billing plan': plans/handbook.pdf#3 ")
    html = result._repr_html_()
    assert html.count("data:image/jpeg") == 1
    assert "plans/handbook.pdf  page 4 (#3)" in html
    assert 'class="mmret pages"' in html


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"text": " "}, "nothing to search for"),
        ({"text": "a", "hybrid": True, "words_only": True}, "no hybrid"),
    ],
)
def test_what_cannot_be_asked_is_refused(docs: Path, words: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        opened(docs, None).search(**words)  # type: ignore[arg-type]


def test_what_cannot_be_opened_is_told_before_weights_are_loaded(tmp_path: Path, docs: Path) -> None:
    with pytest.raises(InputError, match="neither a folder nor a PDF"):
        open_documents(tmp_path / "nowhere", "no-such-backbone")
    with pytest.raises(InputError, match="encodes images only"):
        mmret.open_documents(docs, _weightless(tmp_path))


def _weightless(folder: Path) -> str:
    """A timm model of random weights, without texts."""
    import timm
    from safetensors.torch import save_file

    model = timm.create_model("resnet10t", pretrained=False)
    path = folder / "resnet.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return f"timm:resnet10t/{path}"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="one way of counting cores")
def test_words_may_be_read_by_processes(docs: Path) -> None:
    documents = open_documents(docs, None, workers=1, progress=False)
    assert ranking(documents.search("meeting").hits) == ["notes.pdf#0"]


def test_a_result_says_which_part_of_a_page_answered(docs: Path, late: str, tmp_path: Path) -> None:
    vision = {**VISION, "patch_size": 8, "pool_type": "avg"}
    averaging = str(write_model("clip", tmp_path / "averaging", vision=vision))
    for backbone in (averaging, late):
        result = opened(docs, backbone).search("balance billing", hybrid=True)
        found = result.explain(2)
        assert found.page.tobytes() == result.images.read(result.hits[1][0]).convert("RGB").tobytes()
        assert result.explained.examples[0].rankings[0].hits[0].picture == thumbnail(
            result.explain().overlay(), PAGE_SIDE
        )
    looks = opened(docs, averaging).search("balance billing")
    assert looks.explain(1).score == pytest.approx(looks.hits[0][1], abs=1e-5)
    with pytest.raises(InputError, match="no page at rank 8; there are 7"):
        looks.explain(8)
    with pytest.raises(InputError, match="Words alone found these pages"):
        opened(docs, averaging).search("balance billing", words_only=True).explain()


def test_what_does_not_say_which_part_answered_is_told_before_a_page_is_embedded(
    docs: Path, tmp_path: Path
) -> None:
    silent = str(write_model("coca", tmp_path / "coca"))
    with pytest.raises(InputError, match="CoCa"):
        open_documents(docs, silent, settings=SETTINGS, progress=False, explain=True)
    assert not (docs / ".mmret").exists()
    assert len(opened(docs, silent).search("balance").hits) == 7


def test_a_page_that_words_find_and_nothing_draws_is_a_sheet_that_says_so(docs: Path) -> None:
    (docs / "wide.pdf").write_bytes(make_pdf(["a lonely word"], boxes={0: (0, 0, 14000, 14000)}))
    settings = RenderSettings(max_pixels=1_000_000, sizing=Sizing(dpi=20))
    found = open_documents(docs, None, settings=settings, progress=False).search("lonely plan")
    assert sorted(ranking(found.hits))[-1] == "wide.pdf#0"
    pictures = {hit.id: hit.picture for hit in found.gallery.examples[0].rankings[0].hits}
    assert len(set(pictures.values())) == len(pictures) == 3
    with pytest.raises(InputError, match="pixels at 20 dpi"):
        found.images.read("wide.pdf#0")
