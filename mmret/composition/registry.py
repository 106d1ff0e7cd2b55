"""Composers by short name, as they stand in YAML."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any

from mmret.composition.combiner import CombinedFeatures
from mmret.composition.comclip import ComCLIP
from mmret.composition.composers import (
    CaptionEdit,
    Composer,
    ImageOnly,
    InvertedWord,
    PseudoWord,
    Sum,
    TextOnly,
)
from mmret.composition.ldre import LDRE
from mmret.errors import InputError, nearest

COMPOSERS: dict[str, Callable[..., Composer]] = {
    ImageOnly.name: ImageOnly,
    TextOnly.name: TextOnly,
    Sum.name: Sum,
    PseudoWord.name: PseudoWord,
    InvertedWord.name: InvertedWord,
    CaptionEdit.name: CaptionEdit,
    LDRE.name: LDRE,
    ComCLIP.name: ComCLIP,
    CombinedFeatures.name: CombinedFeatures,
}
"""Short name → composer."""

TRAINED = {PseudoWord.name: "phi", CombinedFeatures.name: "combiner"}
"""Composer → the option that takes trained weights; a training writes them to `<root>/<option>.safetensors`."""


def composer_from_spec(spec: str | Mapping[str, Any] | Composer) -> Composer:
    """The composer that a text or a mapping of YAML describes.

    "image-only"; {"name": "sum", "mode": "raw"}; {"name": "pseudo-word", "phi": "phi.safetensors"};
    {"name": "oti", "words": "words.safetensors"};
    {"name": "caption-edit", "captions": "circo.json"}. The other keys are the composer's arguments. A
    composer is returned as it is.

    Raises:
        InputError: if the name is unknown (it names the nearest), or a key is unknown or missing.
    """
    if not isinstance(spec, str | Mapping):
        return spec
    arguments = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = str(arguments.pop("name", ""))
    if name not in COMPOSERS:
        raise InputError(f"there is no composer {name!r}{nearest(name, COMPOSERS)}.")
    _check_arguments(name, arguments)
    return COMPOSERS[name](**arguments)


def _check_arguments(name: str, arguments: Mapping[str, Any]) -> None:
    """Raise `InputError` for a key that the composer does not have or one that it needs."""
    known = signature(COMPOSERS[name]).parameters
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise InputError(
            f"the composer {name} has no {', '.join(unknown)}; it takes {', '.join(known) or 'no arguments'}."
        )
    missing = [key for key, item in known.items() if item.default is Parameter.empty and key not in arguments]
    if missing:
        raise InputError(f"the composer {name} needs {', '.join(missing)}.")
