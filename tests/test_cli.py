"""The command `mmret`: what it imports, and how it fails."""

import errno
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import mmret
from mmret import cli
from mmret.cli import COMMANDS, Command, main
from mmret.errors import InputError, InputWarning

ROOT = Path(__file__).parents[1]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A subcommand `answer` whose function the test replaces."""
    module = ModuleType("answer_module")
    monkeypatch.setitem(sys.modules, "answer_module", module)
    monkeypatch.setitem(cli.COMMANDS, "answer", Command("for the test", "answer_module:run"))
    return module


def modules_after(statement: str) -> set[str]:
    """Names of the modules that a fresh interpreter holds after a statement."""
    code = f"import sys\ntry:\n    {statement}\nexcept SystemExit:\n    pass\nprint(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return set(output.splitlines()[-1].split())


HEAVY = {"torch", "lightning", "faiss", "numpy", "PIL", "matplotlib", "jsonargparse"}


def test_import_is_light() -> None:
    assert modules_after("import mmret") & HEAVY == set()


def test_help_is_light() -> None:
    assert modules_after("from mmret.cli import main; main(['--help'])") & HEAVY == set()


def test_public_names_resolve() -> None:
    for name in mmret.__all__:
        assert getattr(mmret, name) is not None
        assert name in dir(mmret)


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = mmret.nonsense


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    for name, command in COMMANDS.items():
        assert any(line.split() == [name, *command.summary.split()] for line in lines)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert f"mmret {name}" in capsys.readouterr().out.replace("mmret [options]", "mmret")


def test_an_unknown_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["serach"])
    assert stop.value.code == 2
    assert "invalid choice: 'serach'" in capsys.readouterr().err


def test_a_command_gets_the_words_after_its_name(answer: ModuleType) -> None:
    heard: list[list[str]] = []
    answer.run = lambda argv: heard.append(argv) or 3  # type: ignore[attr-defined, func-returns-value]
    assert main(["answer", "--text", "at night", "-h"]) == 3
    assert heard == [["--text", "at night", "-h"]]


def test_bad_input_is_one_line_and_status_2(answer: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def run(_: list[str]) -> int:
        raise InputError("there is no folder photos/; give one that exists")

    answer.run = run  # type: ignore[attr-defined]
    assert main(["answer"]) == 2
    assert capsys.readouterr().err == "mmret: there is no folder photos/; give one that exists\n"


def test_a_full_disk_is_one_line_and_a_bug_is_loud(
    answer: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(words: list[str]) -> int:
        raise OSError(errno.ENOSPC if words else errno.EIO, "No space left on device", "out.npz")

    answer.run = run  # type: ignore[attr-defined]
    assert main(["answer", "--full"]) == 2
    told = "mmret: No space left on device (out.npz); mend that and run the same command again\n"
    assert capsys.readouterr().err == told
    with pytest.raises(OSError, match="No space"):
        main(["answer"])


def test_our_warnings_are_one_line_and_others_keep_their_place() -> None:
    place = ("somewhere.py", 7, "code()")
    assert (
        cli.format_warning("2 of 3 texts were cut.", InputWarning, *place)
        == "mmret: 2 of 3 texts were cut.\n"
    )
    assert cli.format_warning("old", DeprecationWarning, *place).startswith(
        "somewhere.py:7: DeprecationWarning: old"
    )


def test_a_reader_that_goes_away_is_no_error() -> None:
    code = "from mmret.cli import main; raise SystemExit(main(['data', 'list']))"
    writer = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None and writer.stderr is not None
    writer.stdout.close()
    assert writer.stderr.read() == ""
    assert writer.wait() == cli.EXIT_BROKEN_PIPE


def test_a_pipe_that_breaks_between_processes_is_loud(answer: ModuleType) -> None:
    def run(_: list[str]) -> int:
        raise BrokenPipeError(errno.EPIPE, "a worker went away")

    answer.run = run  # type: ignore[attr-defined]
    with pytest.raises(BrokenPipeError, match="worker"):
        main(["answer"])


def test_an_interrupt_says_how_to_go_on(answer: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def run(_: list[str]) -> int:
        raise KeyboardInterrupt

    answer.run = run  # type: ignore[attr-defined]
    assert main(["answer"]) == 130
    assert capsys.readouterr().err == "mmret: stopped; run the same command again to resume\n"
