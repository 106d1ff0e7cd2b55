import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmret.commands.search import kind_of, main
from mmret.errors import InputError, InputWarning
from tests.backbones.tiny_models import VISION, write_model
from tests.backbones.tiny_pages import FAMILIES
from tests.pages.pdf_files import make_pdf, write_failing

NAMES = ["0.png", "1.png", "2.png", "more/3.png"]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model("clip", tmp_path_factory.mktemp("backbones") / "clip"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    (root / "more").mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in NAMES:
        Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(root / name)
    return root


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    root.mkdir()
    (root / "handbook.pdf").write_bytes(make_pdf(["the plan", "balance billing", "the network"]))
    Image.new("RGB", (40, 60), "red").save(root / "scan.png")
    return root


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "nothing to search for"),
        (["--text", " "], "nothing to search for"),
        (["--text", "x", "--phi", "phi.safetensors"], "give both a text and an image"),
        (["--text", "x", "--beta", "0"], "PDV acts on a pseudo-word"),
        (["one", "--text", "two"], "not in both places"),
        (["one", "--hybrid"], "--hybrid is no option for photos"),
        (["one", "--kind", "documents", "--image", "x.png"], "--image is no option for documents"),
        (["one", "--kind", "documents", "--beta", "0"], "--beta is no option for documents"),
        (["--kind", "documents"], "give a question behind the folder"),
        (["one", "--kind", "documents", "--words-only", "--explain"], "--words-only loads none"),
    ],
)
def test_what_cannot_be_searched_is_told_before_the_model_is_loaded(words: list[str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        main(["nowhere", *words])


@pytest.mark.parametrize("kind", ["photos", "documents"])
def test_a_folder_that_is_not_there_is_all_that_is_told(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"There is no folder .*nowhere\."):
        main([str(tmp_path / "nowhere"), "one", "--kind", kind])
    assert capsys.readouterr().err == ""


def test_ranks_are_printed_and_a_gallery_is_written_escaped(
    photos: Path, backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "2.png").write_bytes(b"")
    words = ["--text", "at <b>night</b>", "--image", str(photos / "0.png"), "--out", str(tmp_path / "out")]
    with pytest.warns(InputWarning, match=r"1 of 4 images cannot be used.*2\.png.* They are left out\."):
        assert main([str(photos), *words, "--backbone", backbone, "-k", "1"]) == 0
    printed = capsys.readouterr()
    rank, _, name = printed.out.split()
    assert (rank, name in NAMES) == ("1", True)
    assert "3 images (3 added, 1 unreadable)" in printed.err
    page = (tmp_path / "out" / "gallery.html").read_text()
    assert "&lt;b&gt;night" in page
    assert "<b>night" not in page


def test_the_question_may_stand_behind_the_folder(
    photos: Path, backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--backbone", backbone, "--out", str(tmp_path / "out")]
    main([str(photos), "a red dog", *options])
    behind = capsys.readouterr().out
    main([str(photos), "--text", "a red dog", *options])
    assert capsys.readouterr().out == behind
    assert behind.count("\n") == 4


@pytest.mark.parametrize("how", [[], ["--hybrid"], ["--hybrid-weighted"]])
def test_pages_are_printed_with_their_numbers_and_shown(
    how: list[str], docs: Path, backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out"), "--workers", "0", "--longest-side", "64"]
    assert main([str(docs), "balance billing", "--backbone", backbone, *how, *out, "-k", "4"]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3", "4"]
    assert sum(line.endswith("  handbook.pdf  page 2 (#1)") for line in lines) == 1
    if how:
        assert lines[0].endswith("  handbook.pdf  page 2 (#1)")
    assert "4 pages (4 added)" in printed.err
    assert "handbook.pdf  page 2 (#1)" in (tmp_path / "out" / "gallery.html").read_text()
    assert (tmp_path / "out" / "failures.jsonl").read_text() == ""


@pytest.mark.parametrize(("option", "size"), [("--dpi", "0 dpi"), ("--longest-side", "longest side 0 px")])
def test_pages_are_not_drawn_at_no_size(option: str, size: str, docs: Path, backbone: str) -> None:
    with pytest.raises(InputError, match=f"cannot be drawn at {size}"):
        main([str(docs), "billing", "--backbone", backbone, option, "0"])


@pytest.mark.parametrize("how", [[], ["--hybrid"], ["--hybrid-weighted"], ["--words-only"]])
def test_less_than_one_page_is_refused(how: list[str], docs: Path, backbone: str) -> None:
    with pytest.raises(InputError, match="k is a whole number from 1 up, not -1"):
        main([str(docs), "billing", "--backbone", backbone, "--longest-side", "64", *how, "-k", "-1"])


def test_pages_are_coloured_where_they_answered(docs: Path, tmp_path: Path) -> None:
    vision = {**VISION, "patch_size": 8, "pool_type": "avg"}
    backbone = str(write_model("clip", tmp_path / "averaging", vision=vision))
    words = [str(docs), "balance billing", "--backbone", backbone, "--longest-side", "64"]
    main([*words, "--out", str(tmp_path / "plain")])
    main([*words, "--out", str(tmp_path / "explained"), "--explain"])
    plain, explained = ((tmp_path / name / "gallery.html").read_text() for name in ("plain", "explained"))
    assert plain != explained
    assert plain.count("data:image/jpeg") == explained.count("data:image/jpeg") == 4


def test_pages_that_cannot_be_coloured_are_shown_as_they_are(
    docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The backbone takes a blank page, and refuses one that words find."""
    qwen = f"vlm:{FAMILIES['qwen2_vl'](tmp_path / 'qwen')}"
    (docs / "strip.pdf").write_bytes(make_pdf(["a strip"], boxes={0: (0, 0, 90000, 150)}))
    words = [str(docs), "strip", "--backbone", qwen, "--hybrid", "--workers", "0", "--longest-side", "300"]
    assert main([*words, "--explain", "--out", str(tmp_path / "out")]) == 1
    assert "the pages are not coloured: an image of 300 × 1 pixels is too long" in capsys.readouterr().err
    assert "strip.pdf  page 1 (#0)" in (tmp_path / "out" / "gallery.html").read_text()
    [failure] = map(json.loads, (tmp_path / "out" / "failures.jsonl").read_text().splitlines())
    assert failure["file"] == "strip.pdf"


def test_words_alone_load_no_model_and_failures_are_the_exit_status(
    docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (docs / "words.pdf").write_bytes(b"These are words, and no PDF.")
    out = ["--out", str(tmp_path / "out"), "--workers", "0"]
    assert main([str(docs), "billing", "--words-only", *out]) == 1
    printed = capsys.readouterr()
    assert printed.out.endswith("  handbook.pdf  page 2 (#1)\n")
    assert "words.pdf: not a PDF" in printed.err
    [failure] = map(json.loads, (tmp_path / "out" / "failures.jsonl").read_text().splitlines())
    assert (failure["file"], failure["cause"]) == ("words.pdf", "not a PDF")


def test_every_failing_document_has_a_line(
    docs: Path, backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    causes = write_failing(docs)
    options = ["--backbone", backbone, "--dpi", "150", "--out", str(tmp_path / "out")]
    assert main([str(docs), "billing", *options]) == 1
    told = capsys.readouterr().err
    for file, (_, cause) in causes.items():
        assert sum(f"  {file}" in line and cause in line for line in told.splitlines()) == 1


def test_one_document_or_one_folder_s_kind_may_be_named(
    docs: Path, backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out"), "--workers", "0"]
    words = ["red", "--words-only", "--within", "handbook.pdf", *out]
    assert main([str(docs), *words]) == 0
    assert capsys.readouterr().out == ""
    assert main([str(docs), "red", "--kind", "photos", "--backbone", backbone, *out[:2]]) == 0
    assert capsys.readouterr().out.split()[2] == "scan.png"


@pytest.mark.parametrize("kind", ["photos", "documents"])
def test_a_search_does_not_find_what_the_last_one_wrote(
    kind: str, photos: Path, docs: Path, backbone: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    root = photos if kind == "photos" else docs
    monkeypatch.chdir(root)
    found = []
    for out in ([], [], ["--out", "."]):
        assert main([".", "billing", "--backbone", backbone, *out]) == 0
        printed = capsys.readouterr()
        found.append({line.split(maxsplit=2)[2] for line in printed.out.splitlines()})
        assert kind_of(root) == kind
    assert (root / "runs/search/gallery.html").is_file() and (root / "gallery.html").is_file()
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 4
    assert "(nothing new)" in printed.err


def test_the_kind_is_told_by_what_is_there(photos: Path, docs: Path, tmp_path: Path) -> None:
    assert kind_of(photos) == "photos"
    assert kind_of(docs) == kind_of(docs / "handbook.pdf") == "documents"
    (photos / "more" / "page.html").write_text("<p>words")
    assert kind_of(photos) == "documents"
    rendered = tmp_path / "rendered"
    rendered.mkdir()
    (rendered / "manifest.jsonl").write_text("")
    assert kind_of(rendered) == "documents"
