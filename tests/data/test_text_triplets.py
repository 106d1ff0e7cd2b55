import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from mmret.data.text_triplets import TextTriplet, TextTriplets, caption_key, read_text_triplets
from mmret.errors import InputError, InputWarning

RTD = ("reference_caption", "conditioning_caption", "target_caption")
TEXTS = ("a dog", "make it $5", "a cat – café")


@pytest.mark.parametrize(
    "columns", [RTD, ("caption", "edit", "output"), ("original_prompt", "edit_prompt", "edited_prompt")]
)
@pytest.mark.parametrize("name", ["t.json", "t.jsonl", "t.parquet"])
def test_triplets_are_read_in_every_layout(tmp_path: Path, columns: tuple[str, ...], name: str) -> None:
    record = {**dict(zip(columns, TEXTS, strict=True)), "url": "x"}
    if name == "t.parquet":
        parquet.write_table(pyarrow.Table.from_pylist([record]), tmp_path / name)
    else:
        (tmp_path / name).write_text(json.dumps([record] if name == "t.json" else record), encoding="utf-8")
    assert list(read_text_triplets(tmp_path / name)) == [TextTriplet(*TEXTS)]


def test_a_local_folder_of_the_hub_s_layout_is_streamed(tmp_path: Path) -> None:
    rows = [dict(zip(RTD, (f"a {row}", "edit", f"b {row}"), strict=True)) for row in range(3)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "train-00000.parquet")
    found = read_text_triplets(f"hub:{tmp_path}")
    assert [item.reference_caption for item in found] == ["a 0", "a 1", "a 2"]
    with pytest.raises(InputError, match="split 'val', cannot be read"):
        read_text_triplets(f"hub:{tmp_path}", split="val")


def test_other_columns_are_named(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps({"a": "x", "b": "y", "c": "z"}))
    assert list(read_text_triplets(tmp_path / "t.jsonl", columns=("a", "b", "c"))) == [
        TextTriplet("x", "y", "z")
    ]
    with pytest.raises(InputError, match="name three"):
        read_text_triplets(tmp_path / "t.jsonl", columns=("a", "b"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edit": ""}, "'edit' is empty"),
        ({"edit": None}, "'edit' is missing"),
        ({"output": 3}, "'output' is 3, no text"),
        ({"output": "A  dog"}, "the same"),
    ],
)
def test_unusable_rows_are_refused_or_dropped_with_a_count(tmp_path: Path, changes, message: str) -> None:
    good = {"caption": "a dog", "edit": "turn it", "output": "a cat"}
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, [good, {**good, **changes}, good])))
    with pytest.raises(InputError, match=f"1 of 3 rows.*{message}"):
        read_text_triplets(path)
    with pytest.warns(InputWarning, match=f"1 of 3 rows.*{message}"):
        assert len(read_text_triplets(path, drop_unusable=True)) == 2


def test_files_without_triplets_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match="no readable parquet"):
        read_text_triplets(tmp_path / "t.parquet")
    (tmp_path / "t.json").write_text("[]")
    with pytest.raises(InputError, match="no usable text triplet"):
        read_text_triplets(tmp_path / "t.json")


def test_the_store_gives_back_what_was_put_in() -> None:
    rows = [TextTriplet(f"ä {row}", "", f"b {row}") for row in range(5)]
    store = TextTriplets(rows)
    assert [store[row] for row in range(5)] == rows
    assert store.caption_keys.shape == (5, 2)
    assert caption_key("A  Dog ") == caption_key("a dog") != caption_key("a dot")
    for row in (5, -1):
        with pytest.raises(IndexError):
            store[row]
