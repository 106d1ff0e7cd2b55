"""`mmret data`: the published benchmarks, and whether a copy on disk is whole."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmret.data.catalogue import RELEASES, release_folder, releases
from mmret.data.inventory import take_inventory

EXIT_INCOMPLETE = 1


def build_parser() -> argparse.ArgumentParser:
    """The options of `mmret data`."""
    parser = argparse.ArgumentParser(prog="mmret data", description="Published benchmarks on this disk.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="names, splits and sizes of all published benchmarks")
    check = commands.add_parser(
        "check", help="say what is there and what is missing; exit status 1 if anything is missing or differs"
    )
    check.add_argument("name", help="a benchmark, or a family of them such as fashioniq or genecis")
    check.add_argument("--root", type=Path, help="its folder (below $MMRET_DATA or data)")
    check.add_argument("--split", help="one split only")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `list`, or `check` (status 1 unless everything that was looked for is there)."""
    options = build_parser().parse_args(argv)
    return _list() if options.command == "list" else _check(options.name, options.root, options.split)


def _list() -> int:
    for release in RELEASES.values():
        for split, counts in release.counts.items():
            sizes = ", ".join(f"{number:,} {what}" for what, number in counts.items())
            print(f"{release.name:<34} {split:<6} {sizes}")
    return 0


def _check(name: str, root: Path | None, split: str | None) -> int:
    whole = True
    for release in releases(name):
        place = root if root is not None else release_folder(release)
        for each in [split] if split else release.counts:
            print(f"{release.name} {each} in {place}")
            for finding in take_inventory(release, each, place):
                print(f"  {finding}", flush=True)
                whole = whole and finding.good
    return 0 if whole else EXIT_INCOMPLETE
