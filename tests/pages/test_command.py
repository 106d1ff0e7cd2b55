import json
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
