"""What an installation brings: one FAISS, safe versions, the weights; and the commands around it."""

import ast
import configparser
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from itertools import product
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import mmret
from mmret.data.beir import hub_tables
from mmret.errors import InputError
from mmret.inversion.generate import PhraseWriter
from mmret.pages.ocr import OcrSettings, tesseract_fingerprint
from mmret.text_search.bm25 import BM25
from mmret.text_search.cross_encoder import TextPairScorer
from mmret.text_search.dense import DenseText

ROOT = Path(__file__).parents[1]
EXTRAS = ("vlm", "ocr", "notebooks", "dev")


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def requirements(text: str) -> list[Requirement]:
    return [Requirement(line) for line in text.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def required(setup: configparser.ConfigParser) -> list[Requirement]:
    """Of the base installation."""
    return requirements(setup["options"]["install_requires"])


@pytest.fixture(scope="module")
def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonical(name): Version(version) for name, version in pairs}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_an_extra_brings_is_asked_for_by_the_command_that_installs_it(
    setup: configparser.ConfigParser,
) -> None:
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / "mmret").rglob("*.py")}
    called = [
        [each.value for each in node.args[1:] if isinstance(each, ast.Constant)]
        for text in sources.values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "missing_extra"
    ]
    assert len(called) >= 12
    for package, extra in called:
        brought = {canonical(each.name) for each in requirements(setup["options.extras_require"][extra])}
        assert package in brought, f"{extra} brings no {package}"
    # The package is on no index.
    documents = {path: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
    assert [path for path, text in {**sources, **documents}.items() if "mmret[" in text] == []


@pytest.mark.parametrize(
    ("module", "ask", "extra"),
    [
        ("bm25s", lambda: BM25().index([("a", "b")]), "text"),
        ("sentence_transformers", lambda: DenseText("x").load(), "dense"),
        ("sentence_transformers", lambda: TextPairScorer.load("x", {}, {}), "dense"),
        ("pytesseract", lambda: tesseract_fingerprint(OcrSettings()), "ocr"),
        ("transformers", lambda: PhraseWriter("x"), "vlm"),
        ("datasets", lambda: hub_tables("us/pages")("corpus", "test"), "hub"),
    ],
)
def test_a_package_that_is_not_there_is_named_with_its_command(
    module: str, ask: Callable[[], object], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"needs \S+: run `pip install -e '\.\[{extra}\]'` in the clone"):
        ask()


PLATFORMS = list(product(["linux", "darwin", "win32"], ["x86_64", "aarch64", "arm64", "AMD64"]))


@pytest.mark.parametrize(("system", "machine"), PLATFORMS)
def test_every_platform_gets_exactly_one_faiss(
    required: list[Requirement], system: str, machine: str
) -> None:
    platform = {"sys_platform": system, "platform_machine": machine}
    faiss = [r.name for r in required if "faiss" in r.name and r.marker and r.marker.evaluate(platform)]
    on_gpu = (system, machine) == ("linux", "x86_64")
    assert faiss == ["faiss-gpu" if on_gpu else "faiss-cpu"]


def test_malicious_and_unsafe_lightning_releases_are_out(required: list[Requirement]) -> None:
    (lightning,) = (r for r in required if r.name == "lightning")
    assert not any(lightning.specifier.contains(v) for v in ("2.6.2", "2.6.3", "2.6.5", "2.7.0"))
    assert lightning.specifier.contains("2.6.6")


def test_every_direct_requirement_is_pinned_within_its_range(
    setup: configparser.ConfigParser, required: list[Requirement], pins: dict[str, Version]
) -> None:
    extras = [r for extra in EXTRAS for r in requirements(setup["options.extras_require"][extra])]
    here = [r for r in [*required, *extras] if r.marker is None or r.name == "faiss-gpu"]
    outside = [str(r) for r in here if not r.specifier.contains(pins[canonical(r.name)])]
    assert outside == []


def test_the_console_script_is_the_command() -> None:
    (script,) = entry_points(group="console_scripts", name="mmret")
    assert script.value == "mmret.cli:main"


def test_every_data_file_of_the_package_is_installed(setup: configparser.ConfigParser) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "mmret"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tracked.returncode:
        pytest.skip("no git checkout")
    patterns = setup["options.package_data"]["mmret"].split()
    files = [Path(line).relative_to("mmret") for line in tracked.stdout.splitlines()]
    data = [path for path in files if path.suffix != ".py"]
    installed = {path for pattern in patterns for path in (ROOT / "mmret").glob(pattern)}
    assert data
    assert [str(path) for path in data if ROOT / "mmret" / path not in installed] == []


def test_one_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == mmret.__version__


def recipe(*targets: str) -> list[str]:
    """The commands that `make TARGETS` would run in a checkout without an environment."""
    words = ["make", "--dry-run", "--no-print-directory", "READY=.venv/.never", *targets]
    # A `make test` that runs this test must not pass its own options on.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    result = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return result.stdout.splitlines()


def test_demo_and_test_install_first() -> None:
    for target, last in {"demo": "mmret demo", "test": "pytest -n 2"}.items():
        commands = recipe(target)
        assert "-m venv" in commands[0]
        assert "pip install --constraint constraints.txt" in commands[1]
        assert last in commands[-1]


def test_check_runs_everything_once() -> None:
    commands = "\n".join(recipe("test", "check"))
    for tool in ("ruff check", "ruff format --check", "mypy", "mmret table configs/tables/miniature.yaml"):
        assert commands.count(f".venv/bin/{tool}\n" if tool == "ruff check" else f".venv/bin/{tool}") == 1
    assert '-m "not (slow or multiprocess or notebooks)"' in commands
    assert '-m "slow or multiprocess or notebooks"' in commands


CLOSING = "===== 3 passed, 1 skipped in 12.34s (0:00:12) ====="


@pytest.mark.parametrize(
    ("said", "failed", "status", "closing"),
    [
        (f"{CLOSING}\n== 1 failed, 2 passed in 2.00s ==", 2, 2, "== 1 failed, 2 passed in 2.00s =="),
        (f"{CLOSING}\nmypy is content", 0, 0, CLOSING),
        (f"{CLOSING}\nerror: the table broke", 2, 2, CLOSING),
        ("no tests ran in 0.01s", 0, 1, "no test ran"),
    ],
)
def test_continuous_integration_closes_with_what_the_runner_said(
    said: str, failed: int, status: int, closing: str, tmp_path: Path
) -> None:
    """With a stand-in for `make`, which says its arguments and then this."""
    stand_in = tmp_path / "make"
    stand_in.write_text(f"#!/bin/sh\necho called: $@\ncat <<'EOF'\n{said}\nEOF\nexit {failed}\n")
    stand_in.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    command = [ROOT / ".ci/run"]
    done = subprocess.run(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == status
    assert "called: test check" in done.stdout
    assert done.stdout.splitlines()[-1] == closing
