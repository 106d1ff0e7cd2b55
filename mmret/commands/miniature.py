"""`mmret miniature`: the miniature CLIP against its record, samples of the worlds, and what runs get right in one."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmret.errors import InputError

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
RECORD = WEIGHTS / "miniature-clip" / "record.json"
PAGES_RECORD = WEIGHTS / "miniature-pages" / "record.json"
#: Accuracy on every attribute that the shipped weights of the CLIP must reach.
REQUIRED = 0.9
#: How far below the record a new training may stay.
MARGIN = 0.03


def build_parser() -> argparse.ArgumentParser:
    """The options of `mmret miniature`."""
    parser = argparse.ArgumentParser(prog="mmret miniature", description="The miniature CLIP and its world.")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="measure a backbone and compare it with the record")
    check.add_argument("--pages", action="store_true", help="the page encoder, in the place of the CLIP")
    check.add_argument("--backbone", help="name or folder (miniature-clip, or miniature-pages)")
    check.add_argument("--record", action="store_true", help="write the figures as the new record")
    samples = commands.add_parser("samples", help="write a picture of scenes with captions and edits")
    samples.add_argument("--out", type=Path, default=Path("runs/miniature/samples.png"), help="(%(default)s)")
    samples.add_argument("--pages", action="store_true", help="of the generated pages instead")
    pages = commands.add_parser("pages", help="write the generated pages as PDFs without a text layer")
    pages.add_argument("--out", type=Path, default=Path("runs/miniature/documents"), help="(%(default)s)")
    pages.add_argument("--split", default="test", help="of the benchmark of pages (%(default)s)")
    kept = commands.add_parser("kept", help="what the top of runs keeps of the reference and has of the edit")
    kept.add_argument("runs", nargs="+", type=Path, metavar="RUN.npz", help="runs over one split")
    kept.add_argument("--split", default="test", help="of the miniature benchmark (%(default)s)")
    kept.add_argument("--depth", type=int, default=10, help="documents a query (%(default)s)")
    halve = commands.add_parser(
        "halve", help="store weights at half precision, as those that come with the package"
    )
    halve.add_argument(
        "sources", nargs="+", type=Path, metavar="WEIGHTS.safetensors", help="joined to one file"
    )
    halve.add_argument("target", type=Path, metavar="HALVED.safetensors")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the commands; `check` exits with status 1 when an attribute falls short."""
    options = build_parser().parse_args(argv)
    match options.command:
        case "samples":
            return _draw_samples(options.out, options.pages)
        case "pages":
            return _write_pages(options.out, options.split)
        case "kept":
            return _print_kept(options.runs, options.split, options.depth)
        case "halve":
            return _halve(options.sources, options.target)
        case _:
            check = _check_pages if options.pages else _check
            return check(options.backbone, options.record)


def _check(name: str | None, write_record: bool) -> int:
    from mmret.backbones import load_backbone
    from mmret.probes import probe

    name = name or "miniature-clip"
    found = probe(load_backbone(name)).to_dict()
    recorded = _recorded(RECORD, found, write_record)
    lines, failures = compare(found, recorded, REQUIRED)
    print(f"{name}: zero-shot accuracy on {found['pictures']:,} pictures of unseen combinations")
    print("\n".join(lines))
    print(f"{'binding':<20} {found['binding']:6.3f} {recorded['binding']:7.3f} {0.5:7.3f}  (not required)")
    return 1 if failures else 0


def _check_pages(name: str | None, write_record: bool) -> int:
    from mmret.backbones import load_backbone
    from mmret.page_probes import chances, probe_pages

    name = name or "miniature-pages"
    accuracy = {key: round(value, 4) for key, value in probe_pages(load_backbone(name)).items()}
    found = {"accuracy": accuracy, "chance": chances()}
    lines, failures = compare(found, _recorded(PAGES_RECORD, found, write_record))
    print(f"{name}: questions about the generated pages of val")
    print("\n".join(lines))
    return 1 if failures else 0


def _recorded(path: Path, found: Mapping[str, Any], write: bool) -> Any:
    """What was recorded, or is now."""
    from mmret.atomic import write_text
    from mmret.data.records import read_json

    if write:
        write_text(path, json.dumps(found, indent=1) + "\n")
    if not path.is_file():
        raise InputError(f"There is no record {path}; add --record to write one.")
    return read_json(path)


def compare(
    found: Mapping[str, Any], recorded: Mapping[str, Any], required: float = 0.0
) -> tuple[list[str], int]:
    """A line for each accuracy, and how many fell short: below `required`, or more than `MARGIN` below the record."""
    lines = [f"{'accuracy':<20} {'now':>6} {'record':>7} {'chance':>7}"]
    failures = 0
    for attribute, value in found["accuracy"].items():
        known, chance = recorded["accuracy"][attribute], found["chance"][attribute]
        bound = max(required, known - MARGIN)
        failures += value < bound
        verdict = "" if value >= bound else f"  below {bound:.3f}"
        lines.append(f"{attribute:<20} {value:6.3f} {known:7.3f} {chance:7.3f}{verdict}")
    return lines, failures


def _draw_samples(path: Path, pages: bool) -> int:
    from mmret.data.miniature import samples
    from mmret.data.miniature_pages import documents

    sheet = documents.sample_sheet() if pages else samples.sample_sheet()
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    print(f"samples written to {path}")
    return 0


def _write_pages(folder: Path, split: str) -> int:
    from mmret.data.miniature_pages.documents import write_documents

    print(f"{write_documents(folder, split)} documents written to {folder}")
    return 0


def _print_kept(paths: Sequence[Path], split: str, depth: int) -> int:
    """A table: one line a run, one column for what was to change and for each attribute that was to stay."""
    from mmret.data.miniature import miniature_images, scene_queries
    from mmret.retention import chance, retention
    from mmret.retrieval.run import Run

    queries, images = scene_queries(split), miniature_images(split)
    found = {str(path): retention(Run.load(path), queries, images, depth) for path in paths}
    lines = {**found, "chance": chance(queries, images)}
    width = max(map(len, lines))
    print(" ".join([" " * width, *(f"{name:>10}" for name in lines["chance"])]))
    for name, values in lines.items():
        print(" ".join([f"{name:<{width}}", *(f"{value:10.3f}" for value in values.values())]))
    return 0


def _halve(sources: Sequence[Path], target: Path) -> int:
    """Write the floating-point tensors of safetensors files at half precision to one file, with their metadata."""
    from safetensors import safe_open
    from safetensors.torch import save

    from mmret.atomic import atomic_write

    tensors: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    for source in sources:
        if not source.is_file():
            raise InputError(f"There is no file {source}.")
        with safe_open(source, framework="pt") as file:
            held = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # no mapping
            found = file.metadata() or {}
        if tensors and (tensors.keys() & held.keys() or found != metadata):
            raise InputError(f"{source} and {sources[0]} share a tensor's name or were made differently.")
        tensors, metadata = {**tensors, **held}, found
    halved = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as handle:
        handle.write(save(halved, metadata))
    print(f"{target}: {target.stat().st_size / 1e6:.2f} MB")
    return 0
