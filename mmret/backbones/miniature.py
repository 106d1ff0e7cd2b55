"""The small CLIP that ships with the package, trained on the miniature world by `configs/miniature/clip.yaml`.

It is an ordinary model of open_clip in an ordinary local folder, with a small byte-pair vocabulary of its own, so
everything that runs on it runs the code that a published CLIP runs.
"""

from dataclasses import replace
from pathlib import Path

from mmret.backbones.openclip import OpenClipBackbone
from mmret.backbones.spec import BackboneSpec

FOLDER = Path(__file__).resolve().parents[1] / "weights" / "miniature-clip"


class MiniatureBackbone(OpenClipBackbone):
    """The model in `FOLDER`, whatever name a spec gives it."""

    @classmethod
    def describe(cls, name: str) -> BackboneSpec:
        """Return the folder's spec under the short name."""
        spec = OpenClipBackbone.describe(str(FOLDER))
        return replace(spec, name=name, loader="miniature", licence="Apache-2.0")
