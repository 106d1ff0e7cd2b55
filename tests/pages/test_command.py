import json
import re
from pathlib import Path

import pytest

from mmret.cli import main
from tests.pages.pdf_files import make_pdf, write_failing


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    root.mkdir()
    (root / "a.pdf").write_bytes(make_pdf(["one", "two"], outline=[("Start", 0), ("End", 1)]))
    return root


def test_render_text_and_outlines_go_through_the_command(
    docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pages"
    render = [
        "pages",
        "render",
        str(docs),
        "--out",
        str(out),
        "--size",
        "90x60",
        "--format",
        "jpeg",
        "--workers",
        "0",
    ]
    assert main(render) == 0
    assert "2 pages rendered, 0 were there" in capsys.readouterr().out
    assert main(render) == 0
    assert "0 pages rendered, 2 were there" in capsys.readouterr().out
    assert json.loads((out / "manifest.jsonl").read_text().splitlines()[1])["width"] == 90
    assert main(["pages", "text", str(docs), "--out", str(out / "text.jsonl"), "--workers", "0"]) == 0
    assert main(["pages", "outlines", str(docs), "--out", str(out / "pairs.jsonl"), "--workers", "0"]) == 0
    assert "2 queries of 2 outline entries" in capsys.readouterr().out


def test_failures_are_printed_by_name_and_the_status_is_1(
    docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = write_failing(docs)
    status = main(["pages", "render", str(docs), "--out", str(tmp_path / "out"), "--workers", "0"])
    told = capsys.readouterr().out
    assert status == 1
    assert f"{len(expected)} files or pages failed" in told
    assert all(f"{file}" in told and cause in told for file, (_, cause) in expected.items())
    assert main(["pages", "text", str(docs), "--out", str(tmp_path / "text.jsonl"), "--workers", "0"]) == 1


def test_passwords_come_from_an_option_or_a_file(docs: Path, tmp_path: Path) -> None:
    (docs / "b.pdf").write_bytes(make_pdf(["secret"], user="pass"))
    secrets = tmp_path / "passwords.jsonl"
    secrets.write_text('{"file": "b.pdf", "password": "pass"}\n')
    for name, options in {
        "none": [],
        "all": ["--password", "pass"],
        "file": ["--passwords", str(secrets)],
    }.items():
        out = str(tmp_path / f"{name}.jsonl")
        status = main(["pages", "text", str(docs), "--out", out, "--workers", "0", *options])
        assert status == (1 if name == "none" else 0)


def test_a_wrong_password_is_a_failure_by_that_name(
    docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (docs / "b.pdf").write_bytes(make_pdf(["secret"], user="pass"))
    out = tmp_path / "out"
    options = ["--out", str(out), "--workers", "0", "--password", "other"]
    assert main(["pages", "render", str(docs), *options]) == 1
    assert "b.pdf: wrong password (the password does not open" in capsys.readouterr().out
    [failure] = map(json.loads, (out / "failures.jsonl").read_text().splitlines())
    assert (failure["file"], failure["page"], failure["cause"]) == ("b.pdf", None, "wrong password")


def test_a_list_of_files_and_bad_options(
    docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("a.pdf\n\nmissing.pdf\n")
    text = ["pages", "text", str(docs), "--out", str(tmp_path / "text.jsonl"), "--workers", "0"]
    assert main([*text, "--files", str(names)]) == 1
    assert "missing.pdf: missing" in capsys.readouterr().out
    render = ["pages", "render", str(docs), "--out", str(tmp_path / "out"), "--workers", "0"]
    assert main([*render, "--renderer", "word"]) == 2
    assert "no renderer 'word'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*render, "--size", "big"])


RENDER = ["render", "{docs}", "--out", "{out}"]
TEXT = ["text", "{docs}", "--out", "{out}/text.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([*RENDER, "--dpi", "0"], "cannot be drawn at 0 dpi"),
        ([*RENDER, "--dpi", "-72"], "cannot be drawn at -72 dpi"),
        ([*RENDER, "--dpi", "nan"], "cannot be drawn at nan dpi"),
        ([*RENDER, "--dpi", "inf"], "cannot be drawn at inf dpi"),
        ([*RENDER, "--dpi", "1e308"], r"cannot be drawn at 1e\+308 dpi: give more than 0 and less than 1,000,000"),
        ([*RENDER, "--longest-side", "0"], "cannot be drawn at longest side 0 px"),
        ([*RENDER, "--size", "0x90"], "cannot be drawn at 0x90 px"),
        ([*RENDER, "--quality", "500"], "a quality from 1 to 95, not 500"),
        ([*RENDER, "--quality", "0"], "a quality from 1 to 95, not 0"),
        ([*RENDER, "--max-pixels", "0"], "cannot have 0 pixels at most"),
        ([*RENDER, "--max-pixels", "178956971"], "the limit is from 1 to 178,956,970"),
        ([*RENDER, "--workers", "-1"], "'-1' is no number of processes"),
        (["render", "{docs}", "--out", "{file}"], "Cannot make the folder {file}: File exists"),
        (["text", "{docs}", "--out", "{file}/text.jsonl"], "Cannot make the folder {file}: "),
        (["outlines", "{docs}", "--out", "{file}/pairs.jsonl"], "Cannot make the folder {file}: "),
        (["text", "{docs}", "--out", "{docs}"], "{docs} is a folder; name a file"),
        (["outlines", "{docs}", "--out", "{docs}"], "Cannot write {docs}: Is a directory"),
        ([*TEXT, "--passwords", "{docs}"], "{docs} is a folder, where a file is needed"),
        ([*TEXT, "--passwords", "{docs}.jsonl"], "There is no file {docs}.jsonl"),
        ([*TEXT, "--files", "{docs}"], "{docs} is a folder, where a file is needed"),
        ([*TEXT, "--files", "{file}/list"], "There is no file {file}/list"),
        ([*RENDER, "--files", "{file}"], "../docs/a.pdf does not lie below {docs}"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told_in_a_sentence_and_nothing_is_written(
    arguments: list[str], why: str, docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"docs": docs, "out": tmp_path / "out", "file": tmp_path / "names.txt"}
    places["file"].write_text("../docs/a.pdf\n")
    try:
        status: object = main(["pages", *(argument.format(**places) for argument in arguments)])
    except SystemExit as left:
        status = left.code
    assert status == 2
    assert re.search(why.format(**places), capsys.readouterr().err)
    assert {path.name for path in tmp_path.rglob("*")} == {"docs", "a.pdf", "names.txt"}


def test_an_absolute_name_is_refused_and_a_roundabout_one_is_the_same_file(
    docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names, out = tmp_path / "names.txt", tmp_path / "out"
    render = ["pages", "render", str(docs), "--out", str(out), "--workers", "0", "--files", str(names)]
    names.write_text(f"{docs}/a.pdf\n")
    assert main(render) == 2
    assert "does not lie below" in capsys.readouterr().err
    names.write_text("./a.pdf\na.pdf\n")
    assert main(render) == 0
    lines = (out / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["a.pdf#0", "a.pdf#1"]
