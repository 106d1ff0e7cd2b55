from pathlib import Path

import pytest

from mmret.data.text_sources import GalleryTexts, MappedTexts, TextFile
from mmret.errors import InputError
from tests.data.page_layouts import write_lines


def test_a_file_of_texts_is_streamed(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "t.jsonl", [{"id": "b#0", "text": "two", "page": 0}, {"id": "a#0", "text": ""}]
    )
    source = TextFile(path)
    assert list(source.read()) == [("b#0", "two"), ("a#0", "")] == list(source.read())
    assert list(source.read({"a#0", "z"})) == [("a#0", "")]
    write_lines(path, [{"id": "a", "text": "1"}, {"id": "a", "text": "2"}])
    with pytest.raises(InputError, match=r"t.jsonl:2 gives 'a' another text"):
        list(TextFile(path).read())
    with pytest.raises(InputError, match="There is no file of texts"):
        TextFile(tmp_path / "none.jsonl")


def test_a_gallery_takes_its_own_texts_and_misses_none() -> None:
    source = MappedTexts({"a": "1", "b": "2", "c": "3"})
    texts = GalleryTexts(source, ("c", "a"), "t.jsonl")
    assert list(texts.read()) == [("a", "1"), ("c", "3")]
    assert list(texts.read(["b", "c"])) == [("c", "3")]
    with pytest.raises(InputError, match=r"t\.jsonl has no text for 2 of 3 documents, such as 'y'"):
        list(GalleryTexts(source, ("a", "z", "y"), "t.jsonl").read())
