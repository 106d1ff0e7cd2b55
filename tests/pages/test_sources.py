import multiprocessing
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmret.backbones import load_backbone
from mmret.embedding import embed_images, open_store
from mmret.errors import InputError
from mmret.pages import pdf
from mmret.pages.documents import Passwords, list_documents
from mmret.pages.render import render_documents
from mmret.pages.settings import RenderSettings, Sizing
from mmret.pages.sources import DocumentPages, RenderedPages
from tests.pages.pdf_files import make_pdf, page_in, write_failing

AT_72 = RenderSettings(sizing=Sizing(dpi=72))


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    root.mkdir()
    for name in "abcdef":
        (root / f"{name}.pdf").write_bytes(make_pdf(["one", "two", "three"]))
    Image.new("RGB", (30, 20), "red").save(root / "x.png")
    return root


def test_pages_on_demand_are_those_of_a_rendered_folder(docs: Path, tmp_path: Path) -> None:
    render_documents(list_documents(docs), tmp_path / "out", AT_72, workers=0)
    demanded, rendered = DocumentPages(docs, AT_72), RenderedPages(tmp_path / "out")
    assert list(demanded.ids) == list(rendered.ids)
    assert len(demanded.ids) == 19
    for id in demanded.ids:
        assert np.array_equal(demanded.read(id), rendered.read(id))
        assert demanded.stamp(id) == rendered.stamp(id)
    assert page_in(demanded.read("c.pdf#2")) == 2


def test_few_documents_stay_open_and_images_stay_within_their_bytes(
    docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    draw = pdf.draw_page
    monkeypatch.setattr(pdf, "draw_page", lambda *args: drawn.append(args) or draw(*args))  # type: ignore[func-returns-value]
    pages = DocumentPages(docs, AT_72, cache_bytes=2 * 300 * 200 * 3)
    for page in (0, 1, 0):
        pages.read(f"a.pdf#{page}")
    assert len(drawn) == 2
    pages.read("b.pdf#0")  # a.pdf#1 goes: it was used longest ago
    pages.read("a.pdf#0")
    assert len(drawn) == 3
    pages.read("a.pdf#1")
    assert len(drawn) == 4
    assert len({id(document) for document, *_ in drawn}) == 2
    for name in "abcdef":
        pages.read(f"{name}.pdf#2")
    assert len(pages._open._held) == 4
    assert len(pages._images._held) == 2


def test_a_program_ends_in_silence_with_documents_open(docs: Path) -> None:
    # A finalizer made before pypdfium2 is imported, as other packages do, runs all finalizers after its last look.
    before = "import weakref; weakref.finalize(weakref.finalize, int);"
    source = f"from mmret.pages.sources import DocumentPages; pages = DocumentPages({str(docs)!r});"
    program = f"{before} {source} pages.read('a.pdf#0'); print(len(pages.ids))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("19\n", "")


def test_closed_documents_open_again(docs: Path) -> None:
    pages = DocumentPages(docs, AT_72, cache_bytes=0)
    before = pages.read("a.pdf#1")
    pages.close()
    assert len(pages._open._held) == 0
    assert np.array_equal(pages.read("a.pdf#1"), before)


def test_a_changed_document_is_drawn_anew_under_another_stamp(docs: Path) -> None:
    pages = DocumentPages(docs, AT_72)
    before, stamp = pages.read("a.pdf#0"), pages.stamp("a.pdf#0")
    (docs / "a.pdf").write_bytes(make_pdf(["changed"]))
    assert pages.stamp("a.pdf#0") != stamp
    assert not np.array_equal(pages.read("a.pdf#0"), before)


def test_documents_that_fail_are_named_and_pages_that_fail_tell_so(tmp_path: Path) -> None:
    expected = write_failing(tmp_path)
    pages = DocumentPages(tmp_path, AT_72)
    assert {failure.file: (None, failure.cause) for failure in pages.failures} == {
        file: found for file, found in expected.items() if found[0] is None
    }
    assert pages.read("null.pdf#2").size == (300, 200)
    for id, words in {
        "null.pdf#1": "is not there",
        "giant.pdf#1": "limit",
        "none.pdf#0": "no document",
    }.items():
        with pytest.raises(InputError, match=words):
            pages.read(id)


def test_passwords_open_documents(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(make_pdf(["x", "y"], user="pass"))
    pages = DocumentPages(tmp_path, AT_72, passwords=Passwords("pass"))
    assert page_in(pages.read("a.pdf#1")) == 1
    with pytest.raises(InputError, match="encrypted"):
        DocumentPages(tmp_path, AT_72)


def test_a_copy_in_another_process_and_threads_read_the_same(docs: Path) -> None:
    pages = DocumentPages(docs, AT_72, cache_bytes=0)
    pages.read("a.pdf#0")
    copy = pickle.loads(pickle.dumps(pages))
    assert page_in(copy.read("a.pdf#1")) == 1
    with ThreadPoolExecutor(8) as pool:
        found = list(
            pool.map(lambda id: page_in(pages.read(id)), [f"{n}.pdf#{p}" for n in "abc" for p in range(3)])
        )
    assert found == [0, 1, 2] * 3


@pytest.mark.multiprocess
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_a_forked_process_opens_its_own_documents(docs: Path) -> None:
    pages = DocumentPages(docs, AT_72, cache_bytes=0)
    pages.read("a.pdf#0")
    with (
        pdf.LOCK,
        multiprocessing.get_context("fork").Pool(2) as pool,
    ):  # the parent's lock is not the child's
        images = pool.map_async(pages.read, [f"a.pdf#{page}" for page in [0, 1, 2] * 5]).get(timeout=60)
    assert [page_in(image) for image in images] == [0, 1, 2] * 5


def test_one_embedding_store_serves_pages_on_demand_and_rendered_ones(docs: Path, tmp_path: Path) -> None:
    backbone = load_backbone("miniature-clip")
    store = open_store(tmp_path / "store", backbone)
    demanded = DocumentPages(docs, AT_72)
    vectors = embed_images(backbone, demanded, store=store, progress=False)
    render_documents(list_documents(docs), tmp_path / "out", AT_72, workers=0)
    rendered = RenderedPages(tmp_path / "out")
    assert store.missing(list(rendered.ids), [rendered.stamp(id) for id in rendered.ids]) == []
    again = embed_images(backbone, rendered, progress=False)
    assert np.allclose(vectors, again, atol=1e-5)


def test_other_folders_have_no_rendered_pages(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder of rendered pages"):
        RenderedPages(tmp_path)
