import json
from pathlib import Path

import pytest

from mmret import cli
from mmret.data.published import TRIMMED
from tests.data.published_layouts import write_cirr, write_genecis


def check(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    status = cli.main(["data", "check", *options])
    return status, capsys.readouterr().out


def test_a_whole_folder_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, printed = check(capsys, "genecis", "--root", str(write_genecis(tmp_path)))
    assert status == 0
    assert printed.count("4 queries") == 4
    assert "NO" not in printed


def test_everything_that_is_wrong_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_cirr(tmp_path)
    (root / TRIMMED).unlink()
    (root / "dev" / "dev-5-0-img0.png").unlink()
    captions = root / "cirr/captions/cap.rc2.val.json"
    records = json.loads(captions.read_text())
    captions.write_text(json.dumps([{**records[0], "target_hard": "dev-99"}, *records[1:]]))
    status, printed = check(capsys, "cirr", "--root", str(root), "--split", "val")
    assert status == 1
    assert "NO  8 queries where the whole has 4,181" in printed
    assert "NO  1 targets outside the gallery, such as dev-99" in printed
    assert f"NO  23 of 24 images: dev-5-0-img0 ({root / 'dev' / 'dev-5-0-img0.png'})" in printed
    captions.unlink()
    status, printed = check(capsys, "cirr", "--root", str(root), "--split", "val")
    assert status == 1
    assert f"NO  annotations {captions} (missing)" in printed


def test_unknown_names_are_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(capsys, "imagenet")[0] == cli.EXIT_BAD_INPUT


def test_the_list_names_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "list"]) == 0
    assert "val    4,181 queries, 2,297 gallery entries" in capsys.readouterr().out
