import os
import sys
from pathlib import Path

import pytest

from mmret.display import Gallery
from mmret.errors import InputError
from mmret.pages.documents import MANIFEST, Passwords, list_documents, page_id, split_page_id
from mmret.pages.failures import write_failures


@pytest.mark.parametrize(("file", "page"), [("a.pdf", 0), ("b/c d#2.pdf", 12)])
def test_a_page_id_tells_file_and_page(file: str, page: int) -> None:
    assert split_page_id(page_id(file, page)) == (file, page)


@pytest.mark.parametrize("id", ["a.pdf", "a.pdf#", "#3", "a.pdf#-1", "a.pdf#x"])
def test_other_names_are_no_page_ids(id: str) -> None:
    with pytest.raises(InputError, match="names no page"):
        split_page_id(id)


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def test_documents_are_found_at_any_depth_and_rendered_folders_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "b.PDF", "a/c.html", "a/d.png", "notes.txt", ".hidden.pdf", ".git/e.pdf")
    write(tmp_path, f"pages/{MANIFEST}", "pages/b.PDF/0000.png")
    listing = list_documents(tmp_path)
    assert [(document.file, document.kind) for document in listing.documents] == [
        ("a/c.html", "html"), ("a/d.png", "image"), ("b.PDF", "pdf")
    ]  # fmt: skip
    assert [document.file for document in list_documents(tmp_path, kinds=["pdf"]).documents] == ["b.PDF"]


def test_our_own_galleries_are_documents_only_where_they_are_named(tmp_path: Path) -> None:
    write(tmp_path, "a.html")
    Gallery("Search", ()).save(tmp_path / "results/found.html")
    assert [document.file for document in list_documents(tmp_path).documents] == ["a.html"]
    [named] = list_documents(tmp_path / "results/found.html").documents
    assert named.file == "found.html"


def test_one_file_and_some_files_are_parts_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path, "a.pdf", "b.pdf")
    alone = list_documents(tmp_path / "a.pdf")
    assert (alone.root, [document.file for document in alone.documents]) == (tmp_path, ["a.pdf"])
    some = list_documents(tmp_path, only=["b.pdf", "no.pdf"])
    assert [document.file for document in some.documents] == ["b.pdf"]
    assert [(failure.file, failure.cause) for failure in some.failures] == [("no.pdf", "missing")]
    assert some.partial
    assert alone.partial


def test_an_empty_and_an_absent_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no document"):
        list_documents(tmp_path)
    with pytest.raises(InputError, match="neither a folder nor"):
        list_documents(tmp_path / "absent")
    with pytest.raises(InputError, match="ends like no PDF"):
        list_documents(tmp_path, only=["a.docx"])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_utf8_is_a_failure_with_a_name_that_prints(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    write(folder, "a.pdf", os.fsdecode(b"th\xe9.pdf"))
    listing = list_documents(folder, only=["a.pdf", os.fsdecode(b"th\xe9.pdf"), "gone.pdf"])
    assert [document.file for document in listing.documents] == ["a.pdf"]
    assert [(failure.file, failure.cause) for failure in listing.failures] == [
        ("gone.pdf", "missing"), ("th\\udce9.pdf", "unreadable")
    ]  # fmt: skip
    write_failures(tmp_path / "failures.jsonl", listing.failures)
    assert "caf\\\\udce9/gone.pdf" in (tmp_path / "failures.jsonl").read_text("utf-8")
    assert "there is no file" in str(listing.failures[0])


def test_passwords_go_to_the_file_that_is_named_or_to_all(tmp_path: Path) -> None:
    path = tmp_path / "passwords.jsonl"
    path.write_text('{"file": "a.pdf", "password": "one"}\n')
    passwords = Passwords.read(path, "rest")
    assert (passwords.of("a.pdf"), passwords.of("b.pdf"), Passwords().of("a.pdf")) == ("one", "rest", None)
