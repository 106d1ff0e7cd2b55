"""Images, benchmarks, captions, pages with questions, and the miniature world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmret.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mmret.data.benchmark import Benchmark

__all__ = ["load_benchmark"]


def load_benchmark(
    name: str,
    split: str,
    root: str | Path | None = None,
    *,
    protocol: Mapping[str, Any] | None = None,
    allow_missing: bool = False,
    annotations_only: bool = False,
) -> Benchmark:
    """Load a split of a benchmark by name.

    Args:
        name: A published benchmark (`mmret data list` prints them), or one of
            `miniature` (with `miniature-text-to-image`, `-image-to-text` and `-attributes` beside it),
            `miniature-pages` (or its `-text`, `-layout` and `-picture` questions alone), `emoji`;
            `folder:PATH`: images with captions and edits of one's own;
            `tables:PATH`, `hub:OWNER/NAME@REVISION`: corpus, queries and qrels (BEIR, ViDoRe), on disk or through
            `datasets`, with `?language=…` of some queries only;
            `labelled:PATH`, `outlines:PATH`: questions about a folder of PDFs, or the titles of their outlines
            (`?only=a.pdf,b.pdf`: of these files); `labelled-within:PATH` and `outlines-within:PATH` search each
            query's own document. data/README.md shows the layouts.
        split: Its split.
        root: The folder of a published benchmark in its authors' layout, or the one that
            `mmret.data.emoji.prepare_emoji` wrote; by default its own below `$MMRET_DATA`, or below `data`.
        protocol: Fields of the protocol that differ from the benchmark's.
        allow_missing: Go on without images that are not there; the benchmark's version then says so.
        annotations_only: Do not look for the images of a published benchmark: enough to score a finished run.

    Raises:
        InputError: Unknown names, missing or malformed data, counts that differ from the published ones.
    """
    from pathlib import Path

    from mmret.data.catalogue import RELEASES, data_folder, release_folder
    from mmret.data.published import load_release

    if name in RELEASES:
        place = Path(root) if root is not None else release_folder(RELEASES[name])
        options = {"allow_missing": allow_missing, "annotations_only": annotations_only}
        return load_release(RELEASES[name], split, place, protocol=protocol, **options)
    loaded = _load_own(name, split, root or data_folder("emoji"), allow_missing)
    if not protocol:
        return loaded
    from dataclasses import replace

    changed = loaded.protocol.changed(protocol, name, fixed=["gallery", "query_text_field"])
    return replace(loaded, protocol=changed)


def _load_own(name: str, split: str, root: str | Path, allow_missing: bool) -> Benchmark:
    if name == "miniature":
        from mmret.data.miniature import miniature_benchmark

        return miniature_benchmark(split)
    if name == "miniature-pages" or name.startswith("miniature-pages-"):
        from mmret.data.miniature_pages import pages_benchmark

        return pages_benchmark(split, name.removeprefix("miniature-pages").removeprefix("-") or None)
    if name.startswith("miniature-"):
        from mmret.data.miniature.captions import caption_benchmark

        return caption_benchmark(name, split)
    if name.startswith("folder:") or name == "emoji":
        from mmret.data.annotated_folder import load_annotated_folder

        folder = root if name == "emoji" else name.removeprefix("folder:")
        return load_annotated_folder(folder, split, allow_missing=allow_missing)
    kind, _, place = name.partition(":")
    if kind in ("tables", "hub"):
        return _load_tables(kind, place, split)
    if kind in ("labelled", "labelled-within"):
        from mmret.data.page_labels import load_labelled

        return load_labelled(place, "document" if kind == "labelled-within" else "split")
    if kind in ("outlines", "outlines-within"):
        from mmret.data.page_labels import load_outlines

        folder, _, only = place.partition("?only=")
        return load_outlines(
            folder, "document" if kind == "outlines-within" else "split", only.split(",") if only else None
        )
    raise InputError(
        f"There is no benchmark {name!r}; there are miniature, miniature-pages, emoji, folder:PATH, tables:PATH, "
        "hub:NAME, labelled:PATH, outlines:PATH (both also as -within:PATH), and the published ones that `mmret data "
        "list` prints."
    )


def _load_tables(kind: str, place: str, split: str) -> Benchmark:
    from pathlib import Path

    from mmret.data.beir import folder_tables, hub_tables, load_tables

    place, _, language = place.partition("?language=")
    if kind == "hub":
        return load_tables(place.partition("@")[0], hub_tables(place), split, language=language)
    root = Path(place)
    if not root.is_dir():
        raise InputError(f"There is no folder {root}.")
    return load_tables(root.resolve().name, folder_tables(root), split, root, language)
