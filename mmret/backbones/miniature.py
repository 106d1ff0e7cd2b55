"""The small models that ship with the package, trained on generated pictures and pages by `configs/miniature/`.

They are ordinary models of open_clip in ordinary local folders, with small byte-pair vocabularies of their own, so
everything that runs on them runs the code that a published model runs.
"""

from dataclasses import replace
from pathlib import Path

from mmret.backbones.openclip import OpenClipBackbone
from mmret.backbones.spec import BackboneSpec

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
FOLDERS = {name: WEIGHTS / name for name in ("miniature-clip", "miniature-pages")}
"""Name → folder: the CLIP of the miniature world, and the page encoder of its generated pages."""


class MiniatureBackbone(OpenClipBackbone):
    """The model in one of the `FOLDERS`, by its name."""

    @classmethod
    def describe(cls, name: str) -> BackboneSpec:
        """Return the folder's spec under the short name."""
        spec = OpenClipBackbone.describe(str(FOLDERS[name]))
        return replace(spec, name=name, loader="miniature", licence="Apache-2.0")
