import os
import shutil
from pathlib import Path

import pytest

from mmret.errors import InputError
from mmret.pages import ocr
from mmret.pages.documents import list_documents
from mmret.pages.ocr import OcrSettings, recognise_text
from mmret.pages.render import render_documents
from mmret.pages.settings import RenderSettings, Sizing
from mmret.pages.text import read_texts
from tests.pages.pdf_files import make_pdf

needs_tesseract = pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")


def rendered(folder: Path, texts: list[str]) -> Path:
    docs, out = folder / "docs", folder / "pages"
    docs.mkdir(exist_ok=True)
    (docs / "a.pdf").write_bytes(make_pdf(texts))
    render_documents(list_documents(docs), out, RenderSettings(sizing=Sizing(dpi=150)), workers=0)
    return out


@needs_tesseract
def test_words_are_read_off_the_images_and_only_new_images_are_read(tmp_path: Path) -> None:
    pages = rendered(tmp_path, ["Balance billing", "Pharmacy"])
    outcome = recognise_text(pages, workers=0)
    texts = read_texts(pages / "ocr.jsonl")
    assert {id: text.split("\n")[0] for id, text in texts.items()} == {
        "a.pdf#0": "Balance billing", "a.pdf#1": "Pharmacy"
    }  # fmt: skip
    assert (outcome.done, outcome.kept, outcome.failures) == (2, 0, ())
    assert recognise_text(pages, workers=0).kept == 2
    rendered(tmp_path, ["Vision"])
    again = recognise_text(pages, workers=0)
    assert (again.done, again.kept, again.forgotten) == (1, 0, ("a.pdf#1",))
    assert read_texts(pages / "ocr.jsonl")["a.pdf#0"].startswith("Vision")


@pytest.mark.parametrize(("said", "used"), [(None, "1"), ("3", "3")])
def test_tesseract_has_one_thread_unless_the_environment_says_more(
    said: str | None, used: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_THREAD_LIMIT", said or "")
    if said is None:
        monkeypatch.delenv("OMP_THREAD_LIMIT")
    monkeypatch.setattr(ocr, "tesseract_fingerprint", lambda _: "tesseract")
    monkeypatch.setattr("pytesseract.image_to_string", lambda *_, **__: os.environ["OMP_THREAD_LIMIT"])
    pages = rendered(tmp_path, ["Balance billing"])
    recognise_text(pages, workers=0)
    assert read_texts(pages / "ocr.jsonl") == {"a.pdf#0": used}


@needs_tesseract
def test_a_broken_image_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    pages = rendered(tmp_path, ["Balance billing", "Pharmacy"])
    (pages / "a.pdf/0000.png").write_bytes(b"no image")
    outcome = recognise_text(pages, workers=0)
    assert [(failure.page, failure.cause) for failure in outcome.failures] == [(0, "damaged")]
    assert list(read_texts(pages / "ocr.jsonl")) == ["a.pdf#1"]


@needs_tesseract
def test_a_language_that_is_not_installed_is_told() -> None:
    with pytest.raises(InputError, match="does not know xyz"):
        ocr.tesseract_fingerprint(OcrSettings("eng+xyz"))


def test_a_folder_without_rendered_pages_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "tesseract_fingerprint", lambda _: "tesseract")
    with pytest.raises(InputError, match="no folder of rendered pages"):
        recognise_text(tmp_path)
