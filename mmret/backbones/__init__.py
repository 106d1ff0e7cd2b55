"""Names → frozen specs → encoders. The package root stays light: torch comes with the first backbone."""

from typing import TYPE_CHECKING

from mmret.backbones.spec import BackboneSpec

if TYPE_CHECKING:
    from mmret.backbones.base import Backbone

__all__ = ["BackboneSpec", "load_backbone", "resolve"]


def load_backbone(
    name: str, *, preprocess: str | None = None, precision: str = "fp32", device: str = "cpu"
) -> "Backbone":
    """Return the frozen backbone called `name`: see `mmret.backbones.registry.load_backbone`."""
    from mmret.backbones import registry

    return registry.load_backbone(name, preprocess=preprocess, precision=precision, device=device)


def resolve(name: str, preprocess: str | None = None) -> BackboneSpec:
    """Return the spec of `name` without any weights: see `mmret.backbones.registry.resolve`."""
    from mmret.backbones import registry

    return registry.resolve(name, preprocess)
