import json
from pathlib import Path

import pytest

from mmret.data import records
from mmret.errors import InputError


@pytest.mark.parametrize(
    "text", ["[]", " [\n] ", '[{"a": "x,]"}]', '\n[ {"a": [1, {}]} ,\r\n{"b": "\u2028"}\t]\n']
)
def test_a_list_is_read_as_json_reads_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(text.encode())
    found = list(records.read_records(path))
    assert [record for _, record in found] == json.loads(text)
    assert [place for place, _ in found] == [f"{path}, record {number}" for number in range(len(found))]


@pytest.mark.parametrize(
    "text", ["", "[", "[{}", "[{},]", "[{} {}]", "[{}] {}", '[{"a": 1,}]', "[,{}]", "[{}]]"]
)
def test_a_malformed_list_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError, match=r"r\.json is not valid JSON"):
        list(records.read_records(tmp_path / "r.json"))


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"a": 1}', "holds a dict where a JSON list"), ("[{}, 3]", "record 1 holds a int where a JSON object")],
)
def test_other_values_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError, match=message):
        list(records.read_records(tmp_path / "r.json"))


def test_lines_end_at_line_feeds_alone(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes('{"a": "x\u2028y\x85z"}\r\n\r\n{"a": "\u00e9"}'.encode())
    assert list(records.read_records(path)) == [
        (f"{path}:1", {"a": "x\u2028y\x85z"}),
        (f"{path}:3", {"a": "é"}),
    ]
    path.write_bytes(b'{"a": "\xe9"}')
    with pytest.raises(InputError, match=r"r\.jsonl is not UTF-8 text"):
        list(records.read_records(path))
    with pytest.raises(InputError, match="There is no file"):
        list(records.read_records(tmp_path / "none.jsonl"))


def test_lines_are_read_one_by_one(tmp_path: Path) -> None:
    """A mistake far down is met only when its line is."""
    (tmp_path / "r.jsonl").write_text('{"a": 1}\n' + "no JSON\n")
    lines = records.read_json_lines(tmp_path / "r.jsonl")
    assert next(lines)[1] == {"a": 1}
    with pytest.raises(InputError, match=r"r\.jsonl:2 is not valid JSON"):
        next(lines)
