"""What the benchmarks share: interleaved repeats, medians with their range, and the machine in one line."""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

Seconds = NDArray[np.float64]


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def interleaved(works: Mapping[str, Callable[[], object]], repeats: int, label: str) -> dict[str, Seconds]:
    """Seconds [repeats] of each piece of work.

    Every repeat does each of them once, one after the other, so that all meet the same load of the machine, and
    starts with another one. Ratios are to be taken within the repeats.
    """
    names = list(works)
    times = {name: np.zeros(repeats) for name in names}
    for repeat in tqdm(range(repeats), desc=label, unit="repeat"):
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            times[name][repeat] = seconds(works[name])
    return times


def spread(values: NDArray[np.float64] | Sequence[float], unit: str = "") -> str:
    """Median and range, three significant digits: "1.02× (0.97–1.1)"."""
    low, middle, high = (f"{number:.3g}" for number in np.quantile(values, [0, 0.5, 1]))
    return f"{middle}{unit} ({low}–{high})"


def table_row(*cells: object) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def table_head(*names: str) -> str:
    """The first two lines of a Markdown table."""
    return f"{table_row(*names)}\n{table_row(*('---' for _ in names))}"


def machine(*distributions: str) -> str:
    """Processor, cores, load, and the versions of the libraries that are measured."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    extras = " with AMX" if any("amx_tile" in line for line in lines) else ""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in distributions)
    return f"{model}{extras}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {versions}"
