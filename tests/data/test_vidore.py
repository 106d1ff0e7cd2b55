"""Where the sets of ViDoRe lie: in a folder of the hub's name, in rows or in three tables."""

from pathlib import Path

import pytest

from mmret import cli
from mmret.data import load_benchmark
from mmret.data.published import TRIMMED
from mmret.errors import InputError
from tests.data.page_layouts import write_rows, write_tables

NAME = "vidore-v1-docvqa"


def test_three_tables_may_lie_in_a_folder_that_says_beir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MMRET_DATA", str(tmp_path))
    root = write_tables(tmp_path / "vidore/docvqa_test_subsampled_beir")
    found = load_benchmark(NAME, "test")
    assert (len(found.gallery), found.version[:10]) == (16, "1-trimmed-")
    assert cli.main(["data", "check", NAME]) == 0
    assert f"as {root / TRIMMED} says" in capsys.readouterr().out
    (root / TRIMMED).unlink()
    with pytest.raises(InputError) as error:
        load_benchmark(NAME, "test")
    assert f"in a file {root / TRIMMED}" in str(error.value)


def test_the_folder_of_rows_comes_first_and_is_the_one_that_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMRET_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"There is no folder .*/vidore/docvqa_test_subsampled for"):
        load_benchmark(NAME, "test")
    write_tables(tmp_path / "vidore/docvqa_test_subsampled_beir")
    write_rows(tmp_path / "vidore/docvqa_test_subsampled")
    assert load_benchmark(NAME, "test").gallery == ("a.png", "b.png", "c.png", "d.png")
