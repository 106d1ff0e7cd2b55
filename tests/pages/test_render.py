import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from mmret.errors import InputError
from mmret.pages import render as rendering
from mmret.pages.documents import list_documents
from mmret.pages.failures import PageError
from mmret.pages.processing import Outcome
from mmret.pages.render import render_documents
from mmret.pages.renderers import PdfiumPages
from mmret.pages.settings import RenderSettings, Sizing
from tests.pages.pdf_files import make_pdf, page_in, write_failing

SETTINGS = RenderSettings(sizing=Sizing(dpi=72))


def render(root: Path, out: Path, settings: RenderSettings = SETTINGS, workers: int = 0) -> Outcome:
    return render_documents(list_documents(root), out, settings, workers=workers)


def manifest(out: Path) -> dict[str, dict[str, object]]:
    lines = (out / "manifest.jsonl").read_text("utf-8").splitlines()
    return {record["id"]: record for record in map(json.loads, lines)}


def drawn_in(out: Path) -> set[str]:
    images = [*out.rglob("[0-9]*.png"), *out.rglob("[0-9]*.jpg")]
    return {path.relative_to(out).as_posix() for path in images}


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    (root / "more").mkdir(parents=True)
    (root / "a.pdf").write_bytes(make_pdf(["one", "two", "three"]))
    (root / "more" / "b.pdf").write_bytes(make_pdf(["four"]))
    Image.new("RGB", (30, 20), "red").save(root / "c.png")
    return root


def test_every_page_becomes_an_image_and_a_line_of_the_manifest(docs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = render(docs, out)
    assert (outcome.done, outcome.kept, outcome.failures) == (5, 0, ())
    found = manifest(out)
    assert list(found) == ["a.pdf#0", "a.pdf#1", "a.pdf#2", "c.png#0", "more/b.pdf#0"]
    assert {key: found["a.pdf#2"][key] for key in ("file", "page", "pages", "image", "width", "height")} == {
        "file": "a.pdf", "page": 2, "pages": 3, "image": "a.pdf/0002.png", "width": 300, "height": 200
    }  # fmt: skip
    assert "pypdfium2" in str(found["a.pdf#2"]["made_by"])
    assert page_in(Image.open(out / "a.pdf/0002.png")) == 2
    assert (out / "failures.jsonl").read_text() == ""


def test_a_second_run_draws_only_what_changed_or_is_missing(docs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    render(docs, out)
    (out / "a.pdf/0001.png").unlink()
    (docs / "more/b.pdf").write_bytes(make_pdf(["four", "five"]))
    before = (out / "a.pdf/0000.png").stat().st_mtime_ns
    outcome = render(docs, out)
    assert (outcome.done, outcome.kept) == (3, 3)
    assert (out / "a.pdf/0000.png").stat().st_mtime_ns == before
    assert (out / "a.pdf/0001.png").is_file()
    assert "more/b.pdf#1" in manifest(out)


def test_pages_that_are_gone_are_forgotten_with_their_images(docs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    render(docs, out)
    (docs / "a.pdf").write_bytes(make_pdf(["alone"]))
    (docs / "more/b.pdf").unlink()
    outcome = render(docs, out)
    assert set(outcome.forgotten) == {"a.pdf#1", "a.pdf#2", "more/b.pdf#0"}
    assert list(manifest(out)) == ["a.pdf#0", "c.png#0"]
    assert drawn_in(out) == {"a.pdf/0000.png", "c.png/0000.png"}


def test_some_files_leave_the_rest_alone(docs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    render(docs, out)
    outcome = render_documents(list_documents(docs, only=["a.pdf", "gone.pdf"]), out, SETTINGS, workers=0)
    assert (outcome.kept, outcome.done, outcome.forgotten) == (3, 0, ())
    assert [(failure.file, failure.cause) for failure in outcome.failures] == [("gone.pdf", "missing")]
    assert len(manifest(out)) == 5


def test_other_settings_draw_all_anew_and_leave_no_old_image(docs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    render(docs, out)
    jpeg = RenderSettings(sizing=Sizing(longest_side=90), format="jpeg")
    assert render(docs, out, jpeg).done == 5
    assert {record["image"] for record in manifest(out).values()} >= {"a.pdf/0000.jpg"}
    assert {Path(name).suffix for name in drawn_in(out)} == {".jpg"}
    assert Image.open(out / "a.pdf/0000.jpg").size == (90, 60)


def test_images_that_a_killed_run_replaced_are_drawn_again(
    docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    render(docs, out)
    save = rendering.save_image

    def killed_after_two(image: Image.Image, path: Path, settings: RenderSettings) -> None:
        if path.name == "0002.png":
            raise KeyboardInterrupt
        save(image, path, settings)

    with monkeypatch.context() as patch:
        patch.setattr(rendering, "save_image", killed_after_two)
        with pytest.raises(KeyboardInterrupt):
            render(docs, out, RenderSettings(sizing=Sizing(dpi=36)))
    assert Image.open(out / "a.pdf/0001.png").size == (150, 100)
    assert "a.pdf#1" not in manifest(out)
    render(docs, out)
    found = manifest(out)
    assert len(found) == 5
    for record in found.values():
        assert Image.open(out / str(record["image"])).size == (record["width"], record["height"])
        assert "72 dpi" in str(record["made_by"])


def test_a_page_that_cannot_be_drawn_any_more_is_forgotten(docs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    render(docs, out)
    (docs / "a.pdf").write_bytes(make_pdf(["one", "two", "three"], null=1))
    outcome = render(docs, out)
    assert outcome.forgotten == ("a.pdf#1",)
    assert drawn_in(out) == {record["image"] for record in manifest(out).values()}
    assert not (out / "a.pdf/0001.png").exists()


@pytest.mark.parametrize("trouble", ["encrypted", "truncated", "unreadable"])
def test_a_document_that_does_not_open_this_time_keeps_its_pages(
    docs: Path, tmp_path: Path, trouble: str
) -> None:
    out = tmp_path / "out"
    render(docs, out)
    before, images = manifest(out), drawn_in(out)
    whole = make_pdf(["one", "two"], user="secret")
    (docs / "a.pdf").unlink()
    if trouble == "unreadable":
        (docs / "a.pdf").symlink_to("a.pdf")  # a link to itself
    else:
        (docs / "a.pdf").write_bytes(whole[:300] if trouble == "truncated" else whole)
    outcome = render(docs, out)
    assert [(failure.file, failure.cause) for failure in outcome.failures] == [("a.pdf", trouble)]
    assert (outcome.forgotten, manifest(out), drawn_in(out)) == ((), before, images)
    (docs / "a.pdf").unlink()
    assert len(render(docs, out).forgotten) == 3


def test_every_failure_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    expected = write_failing(docs)
    out = tmp_path / "out"
    outcome = render(docs, out, RenderSettings())
    reported = [json.loads(line) for line in (out / "failures.jsonl").read_text("utf-8").splitlines()]
    assert {line["file"]: (line["page"], line["cause"]) for line in reported} == expected
    assert len(reported) == len(expected)
    assert set(manifest(out)) == {
        "cropped.pdf#0", "giant.pdf#0", "null.pdf#0", "null.pdf#2", "null.pdf#3"
    }  # fmt: skip
    assert outcome.done == 5
    (docs / "empty.pdf").write_bytes(make_pdf(["mended"]))
    assert render(docs, out, RenderSettings()).done == 1
    assert "empty.pdf" not in (out / "failures.jsonl").read_text("utf-8")


def test_a_page_that_a_renderer_leaves_out_is_a_failure(
    docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def but_the_last(
        self: PdfiumPages, path: Path, numbers: list[int], password: str | None = None
    ) -> Iterator[tuple[int, Image.Image | PageError]]:
        yield from ((number, Image.new("RGB", (3, 2))) for number in numbers[:-1])

    monkeypatch.setattr(PdfiumPages, "pages", but_the_last)
    failures = render(docs, tmp_path / "out").failures
    assert [(failure.file, failure.page, failure.cause) for failure in failures] == [
        ("a.pdf", 2, "page count"), ("more/b.pdf", 0, "page count")
    ]  # fmt: skip


def test_the_folder_itself_is_no_place_for_its_pages(docs: Path) -> None:
    with pytest.raises(InputError, match="cannot be written into the folder itself"):
        render(docs, docs)
    render(docs, docs / "pages")  # inside it they are, and are no documents the next time
    assert render(docs, docs / "pages").kept == 5


@pytest.mark.multiprocess
def test_processes_draw_what_one_draws(docs: Path, tmp_path: Path) -> None:
    render(docs, tmp_path / "one")
    render(docs, tmp_path / "many", workers=2)
    assert manifest(tmp_path / "one") == manifest(tmp_path / "many")
    for name in drawn_in(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "many" / name).read_bytes()


def lives(process: str) -> bool:
    """Whether a process runs; one that ended and that nobody has waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.multiprocess
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked up in /proc")
def test_a_killed_run_goes_on_where_it_stopped_and_leaves_no_process(tmp_path: Path) -> None:
    docs, out = tmp_path / "docs", tmp_path / "out"
    docs.mkdir()
    for name in range(12):
        (docs / f"{name:02d}.pdf").write_bytes(make_pdf([str(page) for page in range(40)]))
    command = ["pages", "render", str(docs), "--out", str(out), "--longest-side", "700", "--workers", "2"]
    killed = subprocess.Popen([sys.executable, "-m", "mmret", *command], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    journal = out / "manifest.jsonl.journal"
    while not (journal.exists() and journal.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    children = Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert 0 < len(drawn_in(out)) < 480
    finished = subprocess.run([sys.executable, "-m", "mmret", *command], capture_output=True, text=True)
    assert finished.returncode == 0
    words = finished.stdout.split()
    done, kept = int(words[0]), int(words[3])
    assert done + kept == 480
    assert kept > 0
    assert len(manifest(out)) == len(drawn_in(out)) == 480
    assert page_in(Image.open(out / "07.pdf/0005.png")) == 5
    while any(map(lives, children)) and time.monotonic() < deadline:
        time.sleep(0.05)  # they notice a moment later that their parent is gone
    assert not [child for child in children if lives(child)]
    assert not list(out.rglob(".*.tmp"))
