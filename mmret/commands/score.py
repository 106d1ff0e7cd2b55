"""`mmret score`: what a finished run is worth, whoever made it."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mmret.atomic import write_text
from mmret.data import load_benchmark
from mmret.data.benchmark import Benchmark
from mmret.errors import InputError
from mmret.retrieval.run import Run
from mmret.scoring import Score, read_any_run, score
from mmret.server_files import write_submissions


def build_parser() -> argparse.ArgumentParser:
    """The options of `mmret score`."""
    parser = argparse.ArgumentParser(
        prog="mmret score",
        description="Score a run against a benchmark's annotations; no images are needed. A run is a file of ours "
        "(.npz), one for the servers of CIRR or CIRCO (.json), or in TREC's format (any other name).",
    )
    parser.add_argument("run", type=Path, help="the run")
    parser.add_argument("--benchmark", required=True, help="its name, such as circo (`mmret data list`)")
    parser.add_argument("--split", default="val", help="(%(default)s)")
    parser.add_argument("--root", type=Path, help="the benchmark's folder (below $MMRET_DATA or data)")
    parser.add_argument("--subset-run", type=Path, help="the run over each query's subset (CIRR)")
    parser.add_argument("--metrics", nargs="+", help="by default the benchmark's own")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures in full precision")
    parser.add_argument("--server-files", type=Path, metavar="FOLDER", help="write what its server takes")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the scores; with `--server-files` write these first (and score nothing where no truth is public)."""
    options = build_parser().parse_args(argv)
    benchmark = load_benchmark(options.benchmark, options.split, options.root, annotations_only=True)
    run, subset_run = _runs(benchmark, options.run, options.subset_run)
    if options.server_files is not None:
        _write_server_files(benchmark, run, subset_run, options.server_files, options.run.stem)
        if not benchmark.is_judged:
            return 0
    found = score(benchmark, run, subset_run, options.metrics)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_text(options.json, json.dumps(found.to_dict(), indent=1, ensure_ascii=False) + "\n")
    print("\n".join(render(benchmark, found)))
    return 0


def _runs(benchmark: Benchmark, path: Path, subset_path: Path | None) -> tuple[Run | None, Run | None]:
    """The run over the gallery and the one over subsets; a CIRR file says itself which of them it is."""
    first = read_any_run(path, benchmark)
    if subset_path is None:
        return (first.run, None) if first.over == "gallery" else (None, first.run)
    if first.over == "subset":
        raise InputError(f"{path} ranks subsets already; give the run over the gallery first.")
    return first.run, read_any_run(subset_path, benchmark).run


def _write_server_files(
    benchmark: Benchmark, run: Run | None, subset_run: Run | None, folder: Path, name: str
) -> None:
    if run is None:
        raise InputError("A server's files are written from a run over the gallery; give that one first.")
    for path in write_submissions(benchmark, run, subset_run, folder, name):
        print(f"written: {path}")


def render(benchmark: Benchmark, found: Score) -> Iterator[str]:
    """Lines for people: every figure times 100 with two decimals, as the official evaluations print them."""
    queries = len(found.evaluation.query_ids)
    yield f"{benchmark.name} {benchmark.split} ({benchmark.version}): {queries:,} queries"
    width = max(map(len, (*found.evaluation.means, *found.averages)))
    for name, value in (*found.evaluation.means.items(), *found.averages.items()):
        yield f"  {name:<{width}} {100 * value:6.2f}"
    for attribute, group in found.groups.items():
        yield from _group_lines(attribute, group)
    yield from (f"note: {note}" for note in found.notes)


def _group_lines(attribute: str, group: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """One line a value of the attribute, one column a metric."""
    metrics = list(next(iter(group.values())))
    width = max(map(len, (*group, attribute)))
    yield f"  {attribute:<{width}} " + "  ".join(metrics)
    for value, means in group.items():
        yield f"  {value:<{width}} " + "  ".join(f"{100 * means[name]:{len(name)}.2f}" for name in metrics)
