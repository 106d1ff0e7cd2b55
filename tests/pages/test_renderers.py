import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmret.data.images import read_image
from mmret.errors import InputError
from mmret.pages import html, renderers
from mmret.pages.failures import PageError
from mmret.pages.renderers import renderer_of
from mmret.pages.settings import RenderSettings, Sizing
from tests.pages.pdf_files import make_pdf, page_in, write_failing
from tests.pages.programs import put_first

needs_poppler = pytest.mark.skipif(
    not (shutil.which("pdftoppm") and shutil.which("pdfinfo")), reason="poppler is not installed"
)
PDFIUM = "pypdfium2"
BOTH = [PDFIUM, pytest.param("pdf2image", marks=needs_poppler)]
SIZINGS = [Sizing(dpi=72), Sizing(dpi=100), Sizing(longest_side=450), Sizing(size=(90, 90))]


def settings(name: str = PDFIUM, sizing: Sizing = SIZINGS[0], **more: int) -> RenderSettings:
    return RenderSettings(name, sizing, **more)  # type: ignore[arg-type]


def drawn(
    path: Path, setting: RenderSettings, *numbers: int, password: str | None = None
) -> dict[int, object]:
    """Images, and causes where there is none."""
    found = renderer_of("pdf", setting).pages(path, numbers, password)
    return {number: page.cause if isinstance(page, PageError) else page for number, page in found}


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("sizing", SIZINGS, ids=str)
def test_pages_come_with_their_numbers_and_size(tmp_path: Path, name: str, sizing: Sizing) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(make_pdf(["one", "two", "three", "four"]))
    images = drawn(path, settings(name, sizing), 0, 2, 3)
    assert {number: page_in(image) for number, image in images.items()} == {0: 0, 2: 2, 3: 3}  # type: ignore[arg-type]
    assert {image.size for image in images.values()} == {sizing.of_page(300, 200)}  # type: ignore[attr-defined]


@needs_poppler
def test_both_renderers_draw_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(make_pdf(["one", "two"]))
    first, second = (np.asarray(drawn(path, settings(name), 1)[1], float) for name in (PDFIUM, "pdf2image"))
    assert np.abs(first - second).mean() < 3
    assert np.abs(first - 255).mean() > 5


@pytest.mark.parametrize("name", BOTH)
def test_failures_have_the_same_causes(tmp_path: Path, name: str) -> None:
    expected = write_failing(tmp_path)
    setting = settings(name)
    found: dict[str, tuple[int | None, object]] = {}
    for file in expected:
        try:
            count = renderer_of("pdf", setting).count(tmp_path / file)
            causes = drawn(tmp_path / file, setting, *range(count))
            [found[file]] = [page for page in causes.items() if isinstance(page[1], str)]
        except PageError as error:
            found[file] = (None, error.cause)
    assert found == expected


@pytest.mark.parametrize("name", BOTH)
def test_pages_behind_a_null_page_keep_their_numbers(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(make_pdf([str(number) for number in range(12)], null=3))
    found = drawn(path, settings(name), *range(1, 12))
    assert found.pop(3) == "null page"
    assert {number: page_in(image) for number, image in found.items() if number < 7} == {
        1: 1, 2: 2, 4: 4, 5: 5, 6: 6
    }  # type: ignore[arg-type]  # fmt: skip
    assert set(found) == {1, 2, *range(4, 12)}


@pytest.mark.parametrize("name", BOTH)
def test_pages_behind_one_without_an_area_keep_their_numbers(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(make_pdf([str(number) for number in range(5)], crops={2: (400, 400, 500, 500)}))
    found = drawn(path, settings(name), *range(1, 5))
    assert found.pop(2) == "damaged"
    assert {number: page_in(image) for number, image in found.items()} == {1: 1, 3: 3, 4: 4}  # type: ignore[arg-type]


@pytest.mark.parametrize("name", BOTH)
def test_passwords_reach_the_renderer(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(make_pdf(["a", "b"], user="user", owner="owner"))
    for password in ("user", "owner"):
        assert page_in(drawn(path, settings(name), 1, password=password)[1]) == 1  # type: ignore[arg-type]
    path.write_bytes(make_pdf(["a", "b"], user=""))
    assert page_in(drawn(path, settings(name), 1)[1]) == 1  # type: ignore[arg-type]


PDFTOPPM = r"""
while [ $# -gt 0 ]; do
  case "$1" in
    -v) echo "pdftoppm version 22.12.0" >&2; exit;;
    -f) first=$2;;
    -l) last=$2;;
  esac
  shift
done
if [ $first -le 2 ] && [ $last -ge 2 ]; then {trouble}; fi
for page in $(seq $first $last); do printf 'P6\n1 1\n255\nrgb'; done
"""


@pytest.mark.parametrize(
    ("trouble", "cause"),
    [
        ("exec sleep 60", "timeout"),
        ("exit 1", "page count"),
        (r"printf 'P6\n1 1\n255\nr'; exit 1", "damaged"),
        (r"printf 'P6\n1 '; exit 1", "damaged"),
    ],
)
def test_a_page_that_poppler_fails_at_fails_alone(
    trouble: str, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_first("pdftoppm", PDFTOPPM.replace("{trouble}", trouble), tmp_path, monkeypatch)
    put_first("pdfinfo", "echo 'Pages: 4'", tmp_path, monkeypatch)
    monkeypatch.setattr(renderers, "_POPPLER_SECONDS", 1)
    path = tmp_path / "a.pdf"
    path.write_bytes(make_pdf(["a", "b", "c", "d"]))
    found = drawn(path, settings("pdf2image"), *range(renderer_of("pdf", settings("pdf2image")).count(path)))
    assert found.pop(1) == cause
    assert set(found) == {0, 2, 3}
    assert {image.getpixel((0, 0)) for image in found.values()} == {tuple(b"rgb")}  # type: ignore[attr-defined]


def test_a_document_that_poppler_counts_otherwise_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_first("pdftoppm", "exit 1", tmp_path, monkeypatch)
    put_first("pdfinfo", "echo 'Pages: 3'", tmp_path, monkeypatch)
    (tmp_path / "a.pdf").write_bytes(make_pdf(["a", "b"]))
    with pytest.raises(PageError, match=r"PDFium counts 2 pages in .*, poppler 3") as caught:
        renderer_of("pdf", settings("pdf2image")).count(tmp_path / "a.pdf")
    assert caught.value.cause == "page count"


def test_missing_programs_and_unknown_renderers_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(InputError, match="poppler-utils"):
        renderer_of("pdf", settings("pdf2image"))
    with pytest.raises(InputError, match="no renderer 'word'"):
        renderer_of("pdf", settings("word"))
    (tmp_path / "a.html").write_text("hello")
    html.find_program.cache_clear()
    with pytest.raises(PageError, match="Chromium") as caught:
        renderer_of("html", settings()).count(tmp_path / "a.html")
    html.find_program.cache_clear()
    assert caught.value.cause == "no program"


def test_the_fingerprint_names_renderer_version_and_settings() -> None:
    texts = {renderer_of("pdf", settings(PDFIUM, sizing)).fingerprint() for sizing in SIZINGS}
    assert len(texts) == len(SIZINGS)
    assert all(text.startswith("pypdfium2 5.") and "PDFium" in text for text in texts)


def test_images_have_one_page_and_a_tiff_as_many_as_frames(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (30, 20), colour) for colour in ("red", "green", "blue")]
    for name in ("a.tiff", "a.gif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    renderer = renderer_of("image", settings())
    assert (renderer.count(tmp_path / "a.tiff"), renderer.count(tmp_path / "a.gif")) == (3, 1)
    pages = dict(renderer.pages(tmp_path / "a.tiff", [0, 2]))
    assert {number: page.getpixel((0, 0)) for number, page in pages.items()} == {
        0: (255, 0, 0),
        2: (0, 0, 255),
    }  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("content", "cause"), [(b"", "empty"), (b"words", "not an image"), (None, "missing")]
)
def test_images_that_cannot_be_read_have_a_cause(tmp_path: Path, content: bytes | None, cause: str) -> None:
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PageError) as caught:
        renderer_of("image", settings()).count(path)
    assert caught.value.cause == cause


def test_image_files_over_the_limit_are_not_decoded_whatever_their_size_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = Image.new("L", (30, 20)), Image.new("L", (300, 200))
    small.save(tmp_path / "a.tiff", save_all=True, append_images=[large, small])
    large.save(tmp_path / "large.png")
    decoded = []
    monkeypatch.setattr(
        renderers, "read_image", lambda path, frame: decoded.append(frame) or read_image(path, frame=frame)
    )
    renderer = renderer_of("image", settings(sizing=Sizing(longest_side=20), max_pixels=59_999))
    with pytest.raises(PageError, match=r"60,000 pixels as it is, where 59,999 are the limit") as caught:
        renderer.count(tmp_path / "large.png")
    assert caught.value.cause == "too large"
    pages = dict(renderer.pages(tmp_path / "a.tiff", range(renderer.count(tmp_path / "a.tiff"))))
    assert isinstance(pages[1], PageError)
    assert pages[1].cause == "too large"
    assert decoded == [0, 2]


def test_a_cut_image_is_a_damaged_page(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.effect_noise((60, 60), 50).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    renderer = renderer_of("image", settings())
    [(_, page)] = renderer.pages(path, range(renderer.count(path)))
    assert isinstance(page, PageError)
    assert page.cause == "damaged"


@pytest.fixture
def chromium(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Puts a script in Chromium's place."""
    found = (html.find_program, html.version)

    def forget() -> None:
        for cached in found:
            cached.cache_clear()

    forget()
    yield lambda script: put_first("chromium", script, tmp_path, monkeypatch)
    forget()


@pytest.mark.parametrize(
    ("script", "cause", "words"),
    [
        ("exec sleep 60", "timeout", "more than 1 s"),
        ("echo 'no display' >&2; exit 1", "damaged", "no display"),
        ("kill -9 $$", "damaged", "it said nothing"),
    ],
)
def test_html_that_chromium_does_not_draw_has_a_cause(
    script: str,
    cause: str,
    words: str,
    chromium: Callable[[str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chromium(script)
    monkeypatch.setattr(html, "_SECONDS", 1)
    (tmp_path / "a.html").write_text("hello")
    [(number, page)] = renderer_of("html", settings()).pages(tmp_path / "a.html", [0])
    assert isinstance(page, PageError)
    assert (number, page.cause) == (0, cause)
    assert words in str(page)


@pytest.mark.skipif(html.find_program() is None, reason="no Chromium is installed")
def test_html_is_a_screenshot_of_its_first_page(tmp_path: Path) -> None:
    path = tmp_path / "a page.html"
    path.write_text(
        "<body style='margin:0;background:#f00'><div style='height:900px'></div>"
        "<div style='height:3000px;background:#00f'></div><img src='http://192.0.2.1/x.png'>"
    )
    renderer = renderer_of("html", settings())
    assert renderer.count(path) == 1
    [(_, image)] = renderer.pages(path, [0])
    assert isinstance(image, Image.Image)
    assert image.size == (980, 980)
    assert [image.getpixel((x, y)) for x, y in [(0, 0), (979, 899), (979, 901), (0, 979)]] == [
        *[(255, 0, 0)] * 2, *[(0, 0, 255)] * 2
    ]  # fmt: skip
    assert "980x980" in renderer.fingerprint()
