from pathlib import Path

import numpy as np
import pytest

from mmret.data import load_benchmark
from mmret.data.miniature_pages import documents, draw_page, pages_of
from mmret.data.miniature_pages import world as pages_world
from mmret.data.miniature_pages.documents import sample_sheet, write_documents
from mmret.pages.documents import list_documents
from mmret.pages.settings import RenderSettings, Sizing
from mmret.pages.sources import DocumentPages
from mmret.pages.text import extract_text, read_texts


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The first 23 pages of val in documents of 20."""
    few = dict(list(pages_of("val").items())[:23])
    monkeypatch.setattr(documents, "pages_of", lambda split: few)
    assert write_documents(tmp_path / "documents", "val") == 2
    return tmp_path / "documents"


def test_documents_hold_the_pages_as_pictures(folder: Path) -> None:
    pages = DocumentPages(folder, RenderSettings(sizing=Sizing(size=(128, 128))))
    assert list(pages.ids) == list(pages_of("val"))[:23]
    read = np.asarray(pages.read("val-01.pdf#2"), dtype=float)
    drawn = {id: np.asarray(draw_page(page), dtype=float) for id, page in pages_of("val").items()}
    assert min(drawn, key=lambda id: np.abs(drawn[id] - read).mean()) == "val-01.pdf#2"
    extract_text(list_documents(folder, kinds=["pdf"]), folder / "text.jsonl", workers=0)
    assert set(read_texts(folder / "text.jsonl").values()) == {""}


def test_questions_have_the_layout_of_page_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages_world, "PAGES", {"tiny": 60})
    monkeypatch.setattr(pages_world, "QUESTIONS", {"tiny": 2})
    write_documents(tmp_path, "tiny")
    mine, read = load_benchmark("miniature-pages", "tiny"), load_benchmark(f"labelled:{tmp_path}", "test")
    assert [(q.id, q.texts, q.targets) for q in read.queries] == [
        (q.id, q.texts, q.targets) for q in mine.queries
    ]


def test_a_sheet_shows_questions_of_each_kind() -> None:
    sheet = sample_sheet(rows=1)
    assert sheet.size == (808, 308)
    assert np.asarray(sheet).std() > 20
