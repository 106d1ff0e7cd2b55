import pickle
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from mmret.data.record_tables import RecordTable, find_table, require_table
from mmret.errors import InputError
from tests.data.page_layouts import write_arrow, write_lines, write_parquet

Rows = Sequence[Mapping[str, Any]]
ROWS = [{"id": f"i{number}", "text": f"text {number}", "blob": bytes([number]).hex()} for number in range(11)]


def write_tsv(path: Path, rows: Rows) -> Path:
    lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


WRITERS: dict[str, Callable[[Path, Rows], Path]] = {
    "parquet": write_parquet,
    "arrow": write_arrow,
    "jsonl": write_lines,
    "tsv": write_tsv,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_shards_are_one_table_in_every_format(kind: str, tmp_path: Path) -> None:
    paths = [WRITERS[kind](tmp_path / f"{n}.{kind}", part) for n, part in enumerate((ROWS[:7], ROWS[7:]))]
    table = RecordTable(paths)
    assert (len(table), set(table.columns)) == (11, {"id", "text", "blob"})
    rows = list(table.rows(["text", "id"]))
    assert [row for _, row in rows] == [{"text": row["text"], "id": row["id"]} for row in ROWS]
    assert rows[8][0] == f"{paths[1]}, row 1"
    for order in ([10, 0, 6, 7, 3, 3], range(11)):
        assert [table.cell("blob", row) for row in order] == [ROWS[row]["blob"] for row in order]
    assert table.file(7) == paths[1]
    again = pickle.loads(pickle.dumps(table))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda row: again.cell("id", row % 11), range(200))) == [
            f"i{n % 11}" for n in range(200)
        ]


def test_other_columns_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sequence[str]] = []
    real = pyarrow.parquet.ParquetFile.iter_batches

    def spy(self: Any, size: int, columns: Sequence[str], **more: Any) -> Any:
        asked.append(columns)
        return real(self, size, columns=columns, **more)

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "iter_batches", spy)
    list(RecordTable([write_parquet(tmp_path / "a.parquet", ROWS)]).rows(["id"]))
    assert asked == [["id"]]


def test_tables_are_found_in_the_usual_layouts(tmp_path: Path) -> None:
    places = (
        "a/corpus.jsonl",
        "b/corpus/test.jsonl",
        "c/corpus/test-00000-of-00001.parquet",
        "d/corpus/test/data-00000-of-00001.arrow",
        "e/data/corpus/part.parquet",
        "f/corpus/corpus.jsonl",
        "g/corpus-00000-of-00001.parquet",
    )
    for place in places:
        path = tmp_path / place
        WRITERS[path.suffix[1:]](path, ROWS)
        assert require_table(tmp_path / place[0], "corpus", "test").paths == (path,)
    # A table's own split comes before others.
    write_parquet(tmp_path / "c/corpus/train-00000-of-00001.parquet", ROWS)
    assert require_table(tmp_path / "c", "corpus", "test").paths[0].name.startswith("test")
    assert find_table(tmp_path / "a", "qrels", "test") is None
    with pytest.raises(InputError, match=r"has no table 'qrels': neither qrels.jsonl nor qrels/test-\*"):
        require_table(tmp_path / "a", "qrels", "test")


def test_bad_tables_are_told(tmp_path: Path) -> None:
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match=r"bad.parquet is no readable parquet file \("):
        RecordTable([bad])
    with pytest.raises(InputError, match="There is no file"):
        RecordTable([tmp_path / "none.parquet"])
    with pytest.raises(InputError, match="no table of a known kind"):
        RecordTable([tmp_path / "a.xls"])
    (tmp_path / "a.tsv").write_text("id\ttext\n1\n")
    with pytest.raises(InputError, match=r"a.tsv, row 1 has 1 fields, not 2"):
        list(RecordTable([tmp_path / "a.tsv"]).rows(["id"]))
    table = RecordTable([write_lines(tmp_path / "a.jsonl", ROWS)])
    with pytest.raises(InputError, match="has no column '_id' or 'docid'; it has id, text, blob"):
        table.require("_id", "docid")


def test_fields_may_be_as_long_as_a_page(tmp_path: Path) -> None:
    rows = [{"id": "a", "text": "word " * 100_000}]
    table = RecordTable([write_tsv(tmp_path / "a.tsv", rows)])
    assert [row for _, row in table.rows(["id", "text"])] == rows


@pytest.mark.parametrize("kind", ["tsv", "jsonl"])
def test_bytes_that_are_no_utf_8_behind_the_first_rows_are_told(kind: str, tmp_path: Path) -> None:
    path = WRITERS[kind](tmp_path / f"a.{kind}", ROWS * 200)
    path.write_bytes(path.read_bytes()[:-40] + "é".encode("latin-1") + path.read_bytes()[-40:])
    with pytest.raises(InputError, match=rf"a\.{kind}.*utf-8"):
        RecordTable([path])


def test_a_part_that_is_damaged_deep_inside_is_told_with_its_row(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", ROWS)
    columns = pyarrow.parquet.ParquetFile(path).metadata.row_group(2)
    content = bytearray(path.read_bytes())
    for number in range(columns.num_columns):
        start = columns.column(number).dictionary_page_offset or columns.column(number).data_page_offset
        content[start : start + 30] = b"\xff" * 30
    path.write_bytes(bytes(content))
    table = RecordTable([path])
    assert table.cell("id", 5) == "i5"
    with pytest.raises(InputError, match=r"a\.parquet, row 7: id cannot be read \(.*\); mend the file"):
        table.cell("id", 7)
    with pytest.raises(InputError, match=r"a\.parquet cannot be read from row \d on \(.*\); mend the file"):
        list(table.rows(["id"]))


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_columns_of_strings_are_told_from_those_of_images(kind: str, tmp_path: Path) -> None:
    rows = [{"path": "a.png", "image": {"bytes": b"a", "path": None}, "number": 1}]
    table = RecordTable([WRITERS[kind](tmp_path / f"a.{kind}", rows)])
    assert [name for name in table.columns if table.holds_text(name)] == ["path"]
