import json
from pathlib import Path

import pypdfium2
import pytest

from mmret.pages.documents import list_documents
from mmret.pages.outlines import Heading, outline_pairs, read_outline, write_pairs
from tests.pages.pdf_files import make_pdf

DOCUMENTS = Path(__file__).parents[3] / "shared" / "data" / "documents"
OUTLINE = [
    ("Preface ", 0),
    ("Usage", 1),
    ("", 1),
    ("Nowhere", -1),
    ("usage", 2),
    ("Usage", 1),
    ("Ärger\n im Büro", 2),
]


def test_titles_become_queries_for_their_pages_without_blanks_and_repeats(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(make_pdf(["x", "y", "z"], outline=OUTLINE))
    (tmp_path / "b.pdf").write_bytes(make_pdf(["x"]))
    (tmp_path / "c.pdf").write_bytes(b"")
    pairs = outline_pairs(list_documents(tmp_path), workers=0)
    assert [(record["query"], record["relevant"]) for record in pairs.records] == [
        ("Preface", [["a.pdf", 0]]),
        ("Usage", [["a.pdf", 1], ["a.pdf", 2]]),
        ("Ärger im Büro", [["a.pdf", 2]]),
    ]
    assert [record["qid"] for record in pairs.records] == [f"a.pdf#outline-{number}" for number in range(3)]
    assert pairs.entries == 7
    assert [failure.file for failure in pairs.failures] == ["c.pdf"]
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    lines = (tmp_path / "pairs.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == list(pairs.records)
    assert "empty" in (tmp_path / "pairs.failures.jsonl").read_text()


def test_titles_know_those_above_them(tmp_path: Path) -> None:
    class Mark:
        def __init__(self, title: str, level: int) -> None:
            self.title, self.level = title, level

        def get_title(self) -> str:
            return self.title

    levels = [("Part", 0), ("Chapter", 1), ("Section", 2), ("Other chapter", 1), ("Deep", 4), ("End", 0)]
    path = tmp_path / "a.pdf"
    path.write_bytes(make_pdf(["x"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pypdfium2.PdfDocument, "get_toc", lambda _: [Mark(*level) for level in levels])
        patch.setattr("mmret.pages.outlines._page", lambda *_: 0)
        found = read_outline(path)
    assert found == [
        Heading("Part", (), 0),
        Heading("Chapter", ("Part",), 0),
        Heading("Section", ("Part", "Chapter"), 0),
        Heading("Other chapter", ("Part",), 0),
        Heading("Deep", ("Part", "Other chapter"), 0),
        Heading("End", (), 0),
    ]


def test_a_title_that_is_no_text_is_left_out(tmp_path: Path) -> None:
    broken = make_pdf(["x"], outline=[("AB", 0), ("End", 0)]).replace(b"<feff00410042>", b"<feff0041d800>")
    (tmp_path / "a.pdf").write_bytes(broken)
    assert read_outline(tmp_path / "a.pdf") == [None, Heading("End", (), 0)]


@pytest.mark.skipif(not DOCUMENTS.is_dir(), reason=f"{DOCUMENTS} is not there")
def test_the_manuals_outlines_are_read_whole() -> None:
    listing = list_documents(DOCUMENTS / "debian-manuals", kinds=["pdf"])
    pairs = outline_pairs(listing, workers=0)
    assert (len(listing.documents), pairs.entries, pairs.failures) == (29, 4416, ())
    assert all(record["query"].strip() and record["relevant"] for record in pairs.records)
    assert len({(record["file"], record["query"].casefold()) for record in pairs.records}) == len(
        pairs.records
    )
