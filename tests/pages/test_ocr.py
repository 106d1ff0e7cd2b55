import json
import os
import pickle
import shutil
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from mmret.cli import main
from mmret.data import load_benchmark
from mmret.data.records import read_json_lines
from mmret.data.text_sources import GalleryTexts, TextFile
from mmret.errors import InputError
from mmret.pages import ocr
from mmret.pages.documents import list_documents
from mmret.pages.ocr import OcrSettings, recognise_text
from mmret.pages.render import render_documents
from mmret.pages.settings import RenderSettings, Sizing
from mmret.pages.sources import RenderedPages
from mmret.pages.text import read_texts
from mmret.pages.work import run_tasks
from tests.data.page_layouts import write_lines, write_parquet, write_slide_rows
from tests.pages.pdf_files import make_pdf
from tests.pages.programs import put_first

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
    outcome = recognise_text(RenderedPages(pages), pages / "ocr.jsonl", workers=0)
    texts = read_texts(pages / "ocr.jsonl")
    assert {id: text.split("\n")[0] for id, text in texts.items()} == {
        "a.pdf#0": "Balance billing", "a.pdf#1": "Pharmacy"
    }  # fmt: skip
    assert (outcome.done, outcome.kept, outcome.failures) == (2, 0, ())
    assert recognise_text(RenderedPages(pages), pages / "ocr.jsonl", workers=0).kept == 2
    rendered(tmp_path, ["Vision"])
    again = recognise_text(RenderedPages(pages), pages / "ocr.jsonl", workers=0)
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
    recognise_text(RenderedPages(pages), pages / "ocr.jsonl", workers=0)
    assert read_texts(pages / "ocr.jsonl") == {"a.pdf#0": used}


def test_a_task_carries_its_own_pages_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "tesseract_fingerprint", lambda _: "tesseract")
    monkeypatch.setattr("pytesseract.image_to_string", lambda *_, **__: "text")
    sizes: dict[int, list[int]] = {}

    def weighed(work: object, tasks: Sequence[object], *rest: Any) -> Iterator[tuple[Any, Any]]:
        sizes[len(tasks)] = [len(pickle.dumps(task)) for task in tasks]
        return run_tasks(work, tasks, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(ocr, "run_tasks", weighed)
    for chunks in (2, 10):
        pages = RenderedPages(rendered(tmp_path, ["page"] * 4 * chunks))
        recognise_text(pages, tmp_path / f"{chunks}.jsonl", workers=0)
    assert max(sizes[10]) < 1.1 * max(sizes[2])


TESSERACT = """
if [ $(wc -c < "$1") -gt 5000 ]; then {trouble}; fi
echo "a text" > "$2.txt"
"""


@pytest.mark.parametrize(
    ("trouble", "cause", "workers"),
    [
        ("exec sleep 60", "timeout", 0),
        ("echo 'no memory' >&2; exit 1", "damaged", 0),
        pytest.param("kill -9 $PPID", "crash", 1, marks=pytest.mark.multiprocess),
    ],
)
def test_a_page_that_tesseract_fails_at_fails_alone(
    trouble: str, cause: str, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs, pages = tmp_path / "docs", tmp_path / "pages"
    docs.mkdir()
    Image.effect_noise((100, 100), 50).save(docs / "noise.png")  # the larger file
    Image.new("L", (100, 100), "white").save(docs / "white.png")
    render_documents(list_documents(docs), pages, workers=0)
    put_first("tesseract", TESSERACT.replace("{trouble}", trouble), tmp_path, monkeypatch)
    monkeypatch.setattr(ocr, "tesseract_fingerprint", lambda _: "tesseract")
    monkeypatch.setattr(ocr, "_SECONDS", 1)
    outcome = recognise_text(RenderedPages(pages), pages / "ocr.jsonl", workers=workers)
    assert [(failure.file, failure.page, failure.cause) for failure in outcome.failures] == [
        ("noise.png", 0, cause)
    ]
    assert read_texts(pages / "ocr.jsonl") == {"white.png#0": "a text"}
    [failure] = map(json.loads, (pages / "ocr.failures.jsonl").read_text().splitlines())
    assert failure["cause"] == cause


@needs_tesseract
def test_a_broken_image_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    pages = rendered(tmp_path, ["Balance billing", "Pharmacy"])
    (pages / "a.pdf/0000.png").write_bytes(b"no image")
    outcome = recognise_text(RenderedPages(pages), pages / "ocr.jsonl", workers=0)
    assert [(failure.page, failure.cause) for failure in outcome.failures] == [(0, "damaged")]
    assert list(read_texts(pages / "ocr.jsonl")) == ["a.pdf#1"]


@needs_tesseract
def test_a_language_that_is_not_installed_is_told() -> None:
    with pytest.raises(InputError, match="does not know xyz"):
        ocr.tesseract_fingerprint(OcrSettings("eng+xyz"))


def picture_of(text: str) -> bytes:
    """A PNG with a line of text."""
    image, content = Image.new("RGB", (600, 100), "white"), BytesIO()
    ImageDraw.Draw(image).text((20, 20), text, fill="black", font=ImageFont.load_default(48))
    image.save(content, "PNG")
    return content.getvalue()


def write_set(root: Path, *pictures: bytes) -> Path:
    """A retrieval set in three tables, with one question for its first page."""
    corpus = [{"corpus-id": f"p{n}", "image": {"bytes": one, "path": None}} for n, one in enumerate(pictures)]
    write_parquet(root / "corpus/test-00000-of-00001.parquet", corpus, rows_a_group=2)
    write_lines(root / "queries.jsonl", [{"_id": "q", "text": "who pays the balance?"}])
    write_lines(root / "qrels/test.jsonl", [{"query-id": "q", "corpus-id": "p0", "score": 1}])
    return root


@needs_tesseract
@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.multiprocess)])
def test_images_in_a_benchmark_s_tables_are_read_by_their_own_ids(
    workers: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "set", tmp_path / "texts/set-ocr.jsonl"
    write_set(root, *map(picture_of, ("Balance billing", "Pharmacy", "Vision")))
    command = ["pages", "ocr", "--benchmark", f"tables:{root}", "--out", str(out), "--workers", workers]
    assert main(command) == 0
    assert dict(TextFile(out).read()) == {"p0": "Balance billing", "p1": "Pharmacy", "p2": "Vision"}
    assert "3 pages read, 0 were there" in capsys.readouterr().out
    assert main(command) == 0
    assert "0 pages read, 3 were there" in capsys.readouterr().out
    write_set(root, picture_of("Balance billing"), b"no image")
    assert main(command) == 1
    assert "p1: damaged" in capsys.readouterr().out
    assert dict(TextFile(out).read()) == {"p0": "Balance billing"}
    [failure] = [record for _, record in read_json_lines(tmp_path / "texts/set-ocr.failures.jsonl")]
    assert (failure["file"], failure["page"], failure["cause"]) == ("p1", None, "damaged")


@pytest.fixture
def no_tesseract(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every image says its size."""
    monkeypatch.setattr(ocr, "tesseract_fingerprint", lambda _: "tesseract")
    monkeypatch.setattr("pytesseract.image_to_string", lambda image, *_, **__: f"{image.width} wide")


@pytest.mark.usefixtures("no_tesseract")
def test_the_texts_fit_the_benchmark_whatever_its_ids_look_like(tmp_path: Path) -> None:
    root, out = write_slide_rows(tmp_path / "slidevqa"), tmp_path / "slides.jsonl"
    options = ["--benchmark", "slidevqa", "--root", str(root), "--out", str(out), "--workers", "0"]
    assert main(["pages", "ocr", *options]) == 0
    gallery = load_benchmark("slidevqa", "test", root).gallery
    assert dict(GalleryTexts(TextFile(out), gallery, "slides").read()) == dict.fromkeys(gallery, "40 wide")


@pytest.mark.usefixtures("no_tesseract")
def test_what_cannot_be_read_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_set(tmp_path / "set", b"")
    write_parquet(tmp_path / "set/corpus/test-00000-of-00001.parquet", [{"_id": "p0", "text": "balance"}])
    one = ["--benchmark", f"tables:{tmp_path / 'set'}"]
    for options, said in (
        ([], "a folder of rendered pages, or the images of a --benchmark: name one"),
        ([str(tmp_path), *one], "a folder of rendered pages, or the images of a --benchmark: name one"),
        ([str(tmp_path)], "is no folder of rendered pages"),
        (one, "need a file of their own: name it with --out"),
        ([*one, "--out", str(tmp_path / "a.jsonl")], "set searches texts and not images"),
    ):
        assert main(["pages", "ocr", *options]) == 2
        assert said in capsys.readouterr().err
