"""Draw the training curves of miniature_rtd.yaml: python docs/rtd_curves.py runs/tables docs/rtd_curves.png."""

import csv
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

METHODS = {"lincir": ("LinCIR", "C0"), "pic2word": ("Pic2Word", "C1"), "searle": ("SEARLE", "C2")}
CURVES = {
    "val/cosine": "cosine of query and target caption",
    "val/loss": "loss",
    "val/recall@1": "recall@1 in 96",
}


def read(tables: Path, method: str) -> list[list[dict[str, str]]]:
    """The logged rows of each seed's RTD."""
    records = sorted(tables.glob(f"miniature_rtd/{method}+rtd@miniature.seed*.json"))
    folders = [json.loads(path.read_text())["facts"]["text_training"] for path in records]
    return [list(csv.DictReader((tables.parents[1] / folder / "metrics.csv").open())) for folder in folders]


def main(tables: Path, picture: Path) -> None:
    """One panel a curve, one line a seed."""
    figure, axes = plt.subplots(1, len(CURVES), figsize=(11, 3.2), layout="constrained")
    for method, (label, colour) in METHODS.items():
        for seed, rows in enumerate(read(tables, method)):
            for axis, (name, title) in zip(axes, CURVES.items(), strict=True):
                points = [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
                axis.plot(*zip(*points, strict=True), color=colour, lw=1, label=None if seed else label)
                axis.set(title=title, xlabel="step")
    axes[0].legend(frameon=False)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
