import json
from pathlib import Path

import pytest

from mmret.errors import InputError
from mmret.pages.ledger import JOURNAL_SUFFIX, Ledger


def record(page: int, stamp: str = "s", **more: object) -> dict[str, object]:
    return {"id": f"a.pdf#{page}", "pages": 20, "stamp": stamp, "made_by": "m", **more}


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text("utf-8").splitlines()]


def test_records_end_in_the_order_of_pages_and_replace_one_another(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with Ledger(path) as ledger:
        ledger.add([record(10), record(2, text="old")])
        ledger.add([record(2, text="new ü"), record(0)])
    assert ids(path) == ["a.pdf#0", "a.pdf#2", "a.pdf#10"]
    assert json.loads(path.read_text("utf-8").splitlines()[1])["text"] == "new ü"
    assert list(tmp_path.iterdir()) == [path]


def test_images_that_are_no_pages_have_a_place_too(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    for more in (["sea/page_2", "17"], ["a.pdf#10", "a.pdf#2", "sea/page_1"]):
        with Ledger(path) as ledger:
            ledger.add({"id": id, "stamp": "s", "made_by": "m"} for id in more)
    assert ids(path) == ["17", "a.pdf#2", "a.pdf#10", "sea/page_1", "sea/page_2"]
    path.write_text('{"id": 17, "stamp": "s", "made_by": "m"}\n')
    with pytest.raises(InputError, match=r"x\.jsonl:1 is no record of a page"):
        Ledger(path)


def test_what_a_killed_run_wrote_is_taken_over_but_for_a_cut_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with Ledger(path) as ledger:
        ledger.add([record(0)])
    whole = json.dumps(record(1)) + "\n"
    path.with_name(path.name + JOURNAL_SUFFIX).write_text(whole + json.dumps(record(2))[:30])
    with Ledger(path) as ledger:
        assert list(ledger.entries) == ["a.pdf#0", "a.pdf#1"]
        ledger.add([record(3)])
    assert ids(path) == ["a.pdf#0", "a.pdf#1", "a.pdf#3"]


def test_an_error_leaves_the_journal_for_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with pytest.raises(KeyError), Ledger(path) as ledger:
        ledger.add([record(5), {}])
    assert path.read_text() == ""
    with Ledger(path) as ledger:
        assert ledger.holds("a.pdf#5", "s", "m")
        assert not ledger.holds("a.pdf#5", "other", "m")
        assert not ledger.holds("a.pdf#5", "s", "other")


def test_forgotten_records_are_not_written(tmp_path: Path) -> None:
    with Ledger(tmp_path / "x.jsonl") as ledger:
        ledger.add([record(0), record(1)])
        assert ledger.keep(lambda id: id.endswith("1")) == ["a.pdf#0"]
    assert ids(tmp_path / "x.jsonl") == ["a.pdf#1"]


def test_two_writers_are_refused_and_so_is_another_file(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with Ledger(path), pytest.raises(InputError, match="another process is writing"):
        Ledger(path)
    path.write_text('{"title": "no page"}\n')
    with pytest.raises(InputError, match=r"x\.jsonl:1 is no record of a page"):
        Ledger(path)
    assert path.read_text() == '{"title": "no page"}\n'
