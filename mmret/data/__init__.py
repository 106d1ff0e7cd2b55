"""Images, benchmarks, captions and the miniature world."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmret.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from mmret.data.benchmark import Benchmark

__all__ = ["load_benchmark"]


def load_benchmark(name: str, split: str, root: str | Path | None = None) -> Benchmark:
    """Load a split of a benchmark by name: `miniature`, `emoji` or `folder:PATH`.

    `root` is where the data of a benchmark lies that is not generated (emoji: the folder that
    `mmret.data.emoji.prepare_emoji` wrote). Raises `InputError` for unknown names and missing data.
    """
    if name == "miniature":
        from mmret.data.miniature import miniature_benchmark

        return miniature_benchmark(split)
    if name.startswith("folder:") or name == "emoji":
        from mmret.data.annotated_folder import load_annotated_folder

        return load_annotated_folder(
            name.removeprefix("folder:") if name != "emoji" else root or "data/emoji", split
        )
    raise InputError(f"There is no benchmark {name!r}; there are miniature, emoji and folder:PATH.")
