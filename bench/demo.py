"""The demo's time and peak memory, over its whole tree of processes: a Markdown table on standard output.

    python bench/demo.py               # `mmret demo` into an empty folder: minutes, and so once by default
    python bench/demo.py --quick       # `mmret miniature samples`: seconds, to see that the measuring works

Peak memory is the largest sum, over the processes alive at one moment, of their proportional set sizes (PSS:
memory that several processes share counts once), read from Linux's /proc five times a second. A peak between
two readings is missed; the largest process's peak resident set, kept by the kernel, stands beside it.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from measuring import machine, spread, table_head, table_row

INTERVAL_S = 0.2
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Usage:
    """What a command took: seconds, MB of all its processes at their peak, MB of the largest one's, how many."""

    seconds: float
    together_mb: float
    largest_mb: float
    processes: int


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="measure a command of seconds instead")
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    if not Path("/proc/self/smaps_rollup").exists():
        raise SystemExit("This measures memory through /proc/PID/smaps_rollup, which only Linux has.")
    command = ["miniature", "samples"] if options.quick else ["demo"]
    print(f"{machine('torch', 'lightning')}; {options.repeats} repeat(s), each into an empty folder;")
    print("median (range).\n")
    print(table_head("command", "seconds", "peak MB, all processes", "peak MB, largest process", "processes"))
    usages = [demo_usage(command) for _ in range(options.repeats)]
    fields = ("seconds", "together_mb", "largest_mb", "processes")
    print(
        table_row(" ".join(["mmret", *command]), *(spread([getattr(u, f) for u in usages]) for f in fields))
    )


def demo_usage(command: Sequence[str]) -> Usage:
    """Run an `mmret` command whose `--out` lies in an empty folder; its own output goes to standard error."""
    with tempfile.TemporaryDirectory() as folder:
        out = ["--out", str(Path(folder) / "out.png" if "samples" in command else Path(folder) / "out")]
        return measured([sys.executable, "-m", "mmret", *command, *out])


def measured(command: Sequence[str]) -> Usage:
    """Run a command to its end and watch it.

    Raises:
        SystemExit: it fails.
    """
    start = time.perf_counter()
    child = subprocess.Popen(command, cwd=ROOT, stdout=sys.stderr)
    together, seen = 0.0, {child.pid}
    while child.poll() is None:
        alive = list(tree(child.pid))
        seen.update(alive)
        together = max(together, sum(map(proportional_mb, alive)))
        time.sleep(INTERVAL_S)
    seconds = time.perf_counter() - start
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {child.returncode}; nothing was measured.")
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return Usage(seconds, together, largest, len(seen))


def tree(root: int) -> Iterator[int]:
    """The process `root` and all that descend from it, as far as they are alive."""
    children = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # pid (name, which may hold anything) state parent …
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):  # it ended meanwhile
            continue
        children[parent].append(int(path.parent.name))
    pending = [root]
    while pending:
        process = pending.pop()
        yield process
        pending += children[process]


def proportional_mb(process: int) -> float:
    """The proportional set size of one process, 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


if __name__ == "__main__":
    main()
