import errno
import os
from pathlib import Path

import numpy as np
import pypdfium2
import pytest

from mmret.pages import pdf
from mmret.pages.failures import PageError
from mmret.pages.settings import RenderSettings, Sizing
from tests.pages.pdf_files import make_pdf, page_in, write_failing

AT_72 = RenderSettings(sizing=Sizing(dpi=72))


def written(folder: Path, content: bytes) -> Path:
    path = folder / "file.pdf"
    path.write_bytes(content)
    return path


def test_pages_are_drawn_on_white_at_their_size(tmp_path: Path) -> None:
    path = written(tmp_path, make_pdf(["one", "two", "three"]))
    with pdf.open_pdf(path) as document:
        images = [pdf.draw_page(document, number, AT_72) for number in range(len(document))]
        stretched = pdf.draw_page(document, 2, RenderSettings(sizing=Sizing(size=(100, 400))))
    assert [(image.size, image.mode) for image in images] == [((300, 200), "RGB")] * 3
    assert [page_in(image) for image in images] == [0, 1, 2]
    assert stretched.size == (100, 400)
    assert page_in(stretched) == 2
    assert np.asarray(images[0])[0].min() == 255


def test_colours_come_out_as_red_green_blue(tmp_path: Path) -> None:
    with pdf.open_pdf(written(tmp_path, make_pdf(["one"], ink="1 0 .2"))) as document:
        bar = np.asarray(pdf.draw_page(document, 0, AT_72))[-3, 3]
    assert bar.tolist() == [255, 0, 51]


def test_text_is_read_page_by_page(tmp_path: Path) -> None:
    with pdf.open_pdf(written(tmp_path, make_pdf(["one", "two"]))) as document:
        assert [pdf.page_text(document, number) for number in range(2)] == ["one", "two"]


def test_every_failure_has_its_own_cause(tmp_path: Path) -> None:
    expected = write_failing(tmp_path)
    found = {}
    for file in expected:
        try:
            with pdf.open_pdf(tmp_path / file) as document:
                for number in range(len(document)):
                    try:
                        pdf.draw_page(document, number, RenderSettings())
                    except PageError as error:
                        found[file] = (number, error.cause)
        except PageError as error:
            found[file] = (None, error.cause)
    assert found == expected


@pytest.mark.parametrize(
    ("part", "method"),
    [("PdfDocument", "init_forms"), ("PdfPage", "get_textpage"), ("PdfTextPage", "get_text_bounded")],
)
def test_what_pdfium_refuses_later_is_damaged_too(
    tmp_path: Path, part: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise pypdfium2.PdfiumError("refused")

    monkeypatch.setattr(getattr(pypdfium2, part), method, refuse)
    path = written(tmp_path, make_pdf(["one"]))
    with pytest.raises(PageError) as caught, pdf.open_pdf(path) as document:
        pdf.page_text(document, 0)
    assert caught.value.cause == "damaged"


def test_a_file_that_the_disk_does_not_give_is_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    path = written(tmp_path, make_pdf(["one"]))
    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(PageError, match="Input/output error") as caught, pdf.open_pdf(path):
        pass
    assert caught.value.cause == "unreadable"


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.9, 0.99])
def test_a_file_without_its_end_is_refused_also_where_pdfium_would_repair_it(
    tmp_path: Path, cut: float
) -> None:
    whole = make_pdf([f"page {number}" for number in range(40)])
    with pytest.raises(PageError) as caught, pdf.open_pdf(written(tmp_path, whole[: int(cut * len(whole))])):
        pass
    assert caught.value.cause == "truncated"


def test_passwords_open_or_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, make_pdf(["secret"], user="user", owner="owner"))
    for password in ("user", "owner"):
        with pdf.open_pdf(path, password) as document:
            assert pdf.page_text(document, 0) == "secret"
    for password, cause in {None: "encrypted", "other": "wrong password"}.items():
        with pytest.raises(PageError) as caught, pdf.open_pdf(path, password):
            pass
        assert caught.value.cause == cause


def test_a_file_with_an_owners_password_alone_is_drawn(tmp_path: Path) -> None:
    with pdf.open_pdf(written(tmp_path, make_pdf(["free"], user="", owner="owner"))) as document:
        assert pdf.page_text(document, 0) == "free"
        assert page_in(pdf.draw_page(document, 0, AT_72)) == 0
