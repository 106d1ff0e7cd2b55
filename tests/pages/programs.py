"""Programs that are not what their names say: found first, and in trouble with what the test chooses."""

import os
from pathlib import Path

import pytest


def put_first(name: str, script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a shell script be the program of this name."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    program = programs / name
    program.write_text(f"#!/bin/sh\n{script}")
    program.chmod(0o755)
    if not os.environ["PATH"].startswith(str(programs)):
        monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
