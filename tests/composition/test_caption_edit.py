import json
from pathlib import Path
from typing import Any

import pytest

from mmret.composition.caption_edit import CaptionEdits, CaptionPair, edited_description
from mmret.errors import InputError

CIREVL = {
    "base_caption": ["a ring", "a dog"],
    "instruction": ["make it red", "on a sofa"],
    "modified_captions": ["a red ring", "Edited Description: a dog on a sofa: asleep"],
}
LDRE = [
    {
        "id": 7,
        "relative_caption": "is red",
        "multi_caption_opt": ["a ring", "one ring"],
        "multi_gpt-3.5_opt": ["a red ring", ""],
    }
]


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("a sign that says: open", "a sign that says: open"),
        ("Edited Description: a sign that says: open\nExplanation: none", "a sign that says: open"),
        ("Sure!\n  Edited Description:  a cat ", "a cat"),
        ("Edited Description:", ""),
    ],
)
def test_a_second_colon_belongs_to_the_caption(answer: str, caption: str) -> None:
    assert edited_description(answer) == caption


def test_cirevls_parallel_lists() -> None:
    edits = CaptionEdits.parse(CIREVL, "file")
    assert edits.pairs == {
        "0": CaptionPair(("a ring",), ("a red ring",), "make it red"),
        "1": CaptionPair(("a dog",), ("a dog on a sofa: asleep",), "on a sofa"),
    }
    assert list(CaptionEdits.parse(CIREVL, "file", ids=["x", "y"]).pairs) == ["x", "y"]
    assert list(CaptionEdits.parse(CIREVL | {"ids": [5, 3]}, "file").pairs) == ["5", "3"]


def test_ldres_lists_lose_empty_edits() -> None:
    assert CaptionEdits.parse(LDRE, "file").pairs == {
        "7": CaptionPair(("a ring", "one ring"), ("a red ring",), "is red")
    }


def test_an_object_of_records_and_cirrs_ids() -> None:
    record = {"base_caption": "a", "modified_captions": "b"}
    by_id = CaptionEdits.parse({"q": record}, "file").pairs
    by_pair = CaptionEdits.parse([{"pairid": "q", **record}], "file").pairs
    assert by_id == by_pair == {"q": CaptionPair(("a",), ("b",))}


def test_an_edit_that_came_out_empty_leaves_the_instruction() -> None:
    record = {"base_caption": "a", "modified_captions": " ", "instruction": "make it red"}
    assert CaptionEdits.parse({"q": record}, "file").pairs["q"].composed == ("make it red",)


def test_records_in_another_order_are_noticed() -> None:
    edits = CaptionEdits.parse(CIREVL, "file")
    edits.check(["0", "1"], [["make it red"], ["Is on a sofa, and asleep"]])
    joined = CaptionEdits.parse(CIREVL | {"instruction": ["is red and has dots", "on a sofa"]}, "file")
    joined.check(["0"], [["has dots, is red"]])
    with pytest.raises(InputError, match=r"another instruction .* for 2 of 2 queries \(0, 1\)"):
        edits.check(["0", "1"], [["on a sofa"], ["make it red"]])
    CaptionEdits.parse(CIREVL | {"ids": ["0", "1"]}, "file").check(["0"], [["a paraphrase"]])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([{"base_caption": "a", "modified_captions": "b"}], "record 0 of file has no id under id, query_id"),
        ({"q": {"base_caption": "a"}}, "file, query 'q' lacks modified_captions"),
        ({"q": ["a", "b"]}, "lacks base_caption and modified_captions"),
        ([LDRE[0], LDRE[0]], "query '7' twice"),
        (CIREVL | {"instruction": ["one"]}, "different lengths"),
        ({"q": {"base_caption": "", "modified_captions": "b"}}, "empty caption under base_caption"),
        ({"q": {"base_caption": "a", "modified_captions": ""}}, "empty caption under modified_captions"),
        ({"q": {"base_caption": 3, "modified_captions": "b"}}, "not a string or a list of strings"),
        ("a ring", "holds a str"),
    ],
)
def test_damaged_content_is_refused(content: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        CaptionEdits.parse(content, "file")


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(LDRE), encoding="utf-8")
    read = CaptionEdits.read(path)
    assert read.where == "captions.json"
    assert read.digest() == CaptionEdits.parse(LDRE, "elsewhere").digest()
    path.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="not valid JSON"):
        CaptionEdits.read(path)
    with pytest.raises(InputError, match="No such file"):
        CaptionEdits.read(tmp_path / "absent.json")
