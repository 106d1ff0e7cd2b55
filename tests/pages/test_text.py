import json
from pathlib import Path

import pytest

from mmret.errors import InputError
from mmret.pages.documents import Passwords, list_documents
from mmret.pages.text import extract_text, read_texts
from tests.pages.pdf_files import make_pdf

CONTOSO = Path(__file__).parents[3] / "shared" / "data" / "documents" / "contoso"


def test_the_text_of_every_page_is_kept_and_only_what_changed_is_read_again(tmp_path: Path) -> None:
    docs, out = tmp_path / "docs", tmp_path / "text.jsonl"
    docs.mkdir()
    (docs / "a.pdf").write_bytes(make_pdf(["one", "two", "three"], null=1))
    (docs / "b.pdf").write_bytes(make_pdf(["locked"], user="pass"))
    outcome = extract_text(list_documents(docs), out, passwords=Passwords("pass"), workers=0)
    assert read_texts(out) == {"a.pdf#0": "one", "a.pdf#2": "three", "b.pdf#0": "locked"}
    assert [(failure.file, failure.page, failure.cause) for failure in outcome.failures] == [
        ("a.pdf", 1, "null page")
    ]
    report = [json.loads(line) for line in (tmp_path / "text.failures.jsonl").read_text().splitlines()]
    assert [line["page"] for line in report] == [1]
    (docs / "b.pdf").write_bytes(make_pdf(["open", "page"]))
    outcome = extract_text(list_documents(docs), out, workers=0)
    assert (outcome.done, outcome.kept) == (2, 2)
    assert read_texts(out)["b.pdf#1"] == "page"


def test_pages_are_counted_again_where_a_record_does_not_say_how_many_there_are(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(make_pdf(["one", "two", "three"]))
    out = tmp_path / "text.jsonl"
    extract_text(list_documents(tmp_path), out, workers=0)
    first = json.loads(out.read_text().splitlines()[0])
    del first["pages"]
    out.write_text(json.dumps(first) + "\n")
    outcome = extract_text(list_documents(tmp_path), out, workers=0)
    assert (outcome.done, outcome.kept) == (2, 1)
    assert list(read_texts(out)) == ["a.pdf#0", "a.pdf#1", "a.pdf#2"]


def test_other_documents_have_no_text_layer(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("hello")
    with pytest.raises(InputError, match="only PDFs"):
        extract_text(list_documents(tmp_path), tmp_path / "text.jsonl", workers=0)


@pytest.mark.skipif(not CONTOSO.is_dir(), reason=f"{CONTOSO} is not there")
def test_the_pages_of_judged_queries_hold_their_words(tmp_path: Path) -> None:
    outcome = extract_text(list_documents(CONTOSO), tmp_path / "text.jsonl", workers=0)
    texts = read_texts(tmp_path / "text.jsonl")
    assert (outcome.done, len(texts), outcome.failures) == (263, 263, ())
    assert "balance billing" in texts["Northwind_Standard_Benefits_Details.pdf#6"].lower()
