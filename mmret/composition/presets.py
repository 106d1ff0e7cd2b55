"""PDV's settings by name: the paper's, by data, size and base method; a closed form; and where others are chosen.

`pdv-paper`  the settings of the paper's tables, which are the best of three trials on the reported data itself
`pdv-auto`   no choice at all: α_text = 1, α_image in closed form per query (clipped; 1 where Δ = 0), β = `AUTO_BETA`
`pdv-val`    chosen by a sweep on data that is not reported, see `SELECTION`
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mmret.composition.pdv import PDV
from mmret.errors import InputError

AUTO_BETA = 0.75
"""β of `pdv-auto`, fixed a priori: the value that stands most often in the paper's tables."""

PRESETS = ("pdv-paper", "pdv-auto", "pdv-val")

CROSS_FIT = "cross-fit"
"""In place of a split: every fold of reference images gets the setting that is best on the other folds."""

SELECTION = {
    "cirr": "val",
    "circo": "val",
    "fashioniq": "train",
    "genecis": CROSS_FIT,
    "miniature": "val",
}
"""Benchmark → the split that `pdv-val` chooses on; GeneCIS has no other split than the reported one."""

_BY_DATA: Mapping[str, Mapping[tuple[str, str], tuple[float, float, float]]] = {
    "fashioniq": {
        ("B", "searle"): (0.9, 1.1, 0.9),
        ("B", "cirevl"): (0.75, 1.4, 1.4),
        ("L", "pic2word"): (0.8, 1, 1),
        ("L", "searle"): (0.8, 1.2, 1),
        ("L", "cirevl"): (0.55, 1, 1.3),
        ("G", "cirevl"): (0.6, 1.4, 1.4),
    },
    "circo": {
        ("B", "searle"): (0.9, 1.4, 1.2),
        ("B", "cirevl"): (0.75, 1.4, 1.2),
        ("B", "ldre"): (0.75, 1.4, 1.4),
        ("L", "pic2word"): (0.85, 1.2, 1),
        ("L", "searle"): (0.85, 1.4, 1.2),
        ("L", "cirevl"): (0.75, 1.4, 1.2),
        ("L", "ldre"): (0.75, 1.4, 1.4),
        ("G", "cirevl"): (0.75, 1.4, 1.2),
        ("G", "ldre"): (0.75, 1.4, 1.4),
    },
}
"""Data → (size of the backbone, base method) → (β, α_image, α_text), in the order of the paper's tables."""

PAPER_SETTINGS: Mapping[tuple[str, str, str], PDV] = {
    (data, *key): PDV(alpha_text, alpha_image, beta)
    for data, listed in {**_BY_DATA, "cirr": _BY_DATA["circo"]}.items()
    for key, (beta, alpha_image, alpha_text) in listed.items()
}
"""(data, size, base method) → PDV-F. CIRR and CIRCO share theirs. (arXiv 2502.07215.)"""

PDV_IMAGE = PDV(alpha_text=1.0, alpha_image=2.0, beta=0.0)
"""The paper's PDV-I alone, reported for CIReVL and LDRE on B/32."""

_SIZES = {r"ViT-?B-?(32|16)": "B", r"ViT-?L-?14": "L", r"ViT-?(g|bigG)-?14": "G"}


def selection_split(benchmark: str) -> str:
    """Where `pdv-val` chooses for a benchmark ("fashioniq-dress" counts as fashioniq); InputError if unknown."""
    data = family(benchmark)
    if data not in SELECTION:
        raise InputError(
            f"pdv-val knows no split to choose on for {benchmark}; name it, such as split: val, or {CROSS_FIT}."
        )
    return SELECTION[data]


def family(benchmark: str) -> str:
    """The data that a benchmark's name begins with: fashioniq of "fashioniq-dress"."""
    return benchmark.lower().partition("-")[0].partition(":")[0]


def backbone_size(architecture: str) -> str:
    """B, L or G of an architecture's name, "" for others."""
    return next((size for name, size in _SIZES.items() if re.search(name, architecture)), "")


def paper_setting(spec: Mapping[str, Any], method: str, benchmark: str, architecture: str) -> PDV:
    """The paper's setting for a row.

    Args:
        spec: `base` (searle, pic2word, cirevl, ldre), which "ldre" as a method implies; `variant: image` for PDV-I
            alone; `data` and `size` where they are not the benchmark's and the backbone's own.
        method, benchmark, architecture: Of the row.

    Raises:
        InputError: an unknown key, no base, or no such setting in the paper, with those that there are.
    """
    unknown = sorted(set(spec) - {"preset", "base", "variant", "data", "size"})
    if unknown:
        raise InputError(f"pdv-paper has no {', '.join(unknown)}; it takes base, variant, data and size.")
    base = spec.get("base", method if method == "ldre" else None)
    data = str(spec.get("data", family(benchmark)))
    size = str(spec.get("size", backbone_size(architecture)))
    if spec.get("variant", "fusion") not in ("fusion", "image"):
        raise InputError(f"pdv-paper's variant is {spec['variant']!r}; the two are fusion and image.")
    key = (data, size, str(base))
    if base is None or key not in PAPER_SETTINGS:
        listed = ", ".join(" ".join(known) for known in PAPER_SETTINGS if known[0] == data or base is None)
        raise InputError(
            f"the paper has no PDV setting for base {base}, data {data}, size {size or 'of ' + architecture}; "
            f"there are {listed or 'fashioniq, circo and cirr'}."
        )
    return PDV_IMAGE if spec.get("variant") == "image" else PAPER_SETTINGS[key]


def automatic_setting() -> PDV:
    """`pdv-auto`."""
    return PDV(alpha_text=1.0, alpha_image="auto", beta=AUTO_BETA)
