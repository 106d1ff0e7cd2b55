import os
import shutil
import subprocess
import sys
from importlib import import_module
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).parents[1] / "bench"
needs_poppler = pytest.mark.skipif(shutil.which("pdftoppm") is None, reason="poppler is not installed")

# Holds 60 MB, has a child that holds 60 MB of its own, and waits until both were seen.
HUNGRY = """
import subprocess, sys, time
held = b"x" * 60_000_000
child = "held = b'x' * 60_000_000; import time; time.sleep(1.5)"
subprocess.run([sys.executable, "-c", child] if len(sys.argv) < 2 else ["false"], check=True)
"""


@pytest.fixture
def bench(monkeypatch):
    """Import a script as it sees itself: with its own folder on the path."""
    monkeypatch.syspath_prepend(str(BENCH))
    return import_module


def test_every_repeat_does_all_the_work_and_starts_with_another(bench):
    done = []
    works = {name: (lambda name=name: done.append(name)) for name in "abc"}
    times = bench("measuring").interleaved(works, 4, "letters")
    assert "".join(done) == "abcbcacababc"
    assert {name: len(taken) for name, taken in times.items()} == {"a": 4, "b": 4, "c": 4}
    assert all((taken > 0).all() for taken in times.values())


def test_a_spread_is_the_median_with_its_range(bench):
    assert bench("measuring").spread(np.array([1.0, 0.5, 30.0]), "×") == "1× (0.5–30)"


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads Linux's /proc")
def test_the_memory_of_a_command_is_that_of_all_its_processes(bench):
    usage = bench("demo").measured([sys.executable, "-c", HUNGRY])
    assert usage.processes >= 2
    assert 120 < usage.together_mb < 250
    assert usage.largest_mb > 60
    assert 1.5 < usage.seconds < 60
    with pytest.raises(SystemExit, match="nothing was measured"):
        bench("demo").measured([sys.executable, "-c", HUNGRY, "fail"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments", "rows"),
    [
        ("search", ["--repeats", "1"], 28),
        ("sweep", ["--repeats", "1", "--searches", "3"], 2),
        ("encode", ["--repeats", "1"], 1),
        ("oti", ["--repeats", "1"], 1),
        ("evaluate", ["--repeats", "1", "--composed", "20"], 4),
        ("rtd", ["--repeats", "1"], 3),
        ("dse", [], 2),
        ("triplets", [], 1),
        pytest.param("pages", [], 6, marks=needs_poppler),
        ("demo", [], 1),
    ],
)
def test_a_quick_run_prints_a_table(script, arguments, rows):
    command = [sys.executable, BENCH / f"{script}.py", "--quick", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(BENCH.parent)}
    found = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    in_blocks = groupby(found.splitlines(), lambda line: line.startswith("|"))
    tables = [list(lines) for is_table, lines in in_blocks if is_table]
    assert sum(len(table) - 2 for table in tables) >= rows
    assert all(len({line.count(" | ") for line in table}) == 1 for table in tables)
    if script == "sweep":
        assert all(line.endswith("| 0 |") for table in tables for line in table[2:])  # no rank is wrong
