"""open_clip's architectures and pretrained tags as short names, by rule.

1. Names are in lower case with hyphens: `ViT-B-32` + `laion2b_s34b_b79k` → `vit-b-32-laion2b-s34b-b79k`.
2. OpenAI's weights are called `clip-` + architecture: `clip-vit-l-14`.
3. The activation follows the weights and is no part of a name: a tag that was trained with QuickGELU gets
   the `-quickgelu` architecture. (With plain GELU OpenAI's weights run, and score worse, without a word.)
4. Input is forgiving: case, underscores and a leading `clip-` do not matter, and the tag may be left out
   where an architecture has only one (`vit-b-16-siglip`).
"""

import re
from collections import defaultdict
from functools import cache
from typing import NamedTuple

import open_clip

_QUICK = "-quickgelu"

UNKNOWN_LICENCE = "see source"
"""What a spec says where no rule knows the licence."""

_LICENCES = (
    (r"CLIPA|nllb", UNKNOWN_LICENCE),
    (r"/(openai|.*laion|datacomp_|commonpool|merged2b|yfcc15m|cc12m)", "MIT"),
    (r"/webli|PE-Core", "Apache-2.0"),
    (r"/metaclip", "CC-BY-NC-4.0"),
)


class Pretrained(NamedTuple):
    """An architecture and a tag in open_clip's own spelling."""

    architecture: str
    tag: str


@cache
def catalogue() -> dict[str, Pretrained]:
    """Return every short name in open_clip's order, with what it stands for."""
    pairs = (matching(architecture, tag) for architecture, tag in open_clip.list_pretrained())
    return {short_name(pair): pair for pair in pairs}


def short_name(pair: Pretrained) -> str:
    """Return the canonical short name of an architecture and a tag."""
    base = _slug(pair.architecture.removesuffix(_QUICK))
    return f"clip-{base}" if pair.tag == "openai" else f"{base}-{_slug(pair.tag)}"


def find(name: str) -> Pretrained | None:
    """Return what a short name stands for, by the forgiving rule; None if nothing, or more than one thing."""
    slug = _slug(name)
    for candidate in (slug, slug.removeprefix("clip-")):
        found = catalogue().get(candidate) or _single_tags().get(candidate)
        if found is not None:
            return found
    return None


def matching(architecture: str, tag: str) -> Pretrained:
    """Return the pair with the activation of the tag's training, where open_clip has such a pair."""
    wants_quick = bool(open_clip.get_pretrained_cfg(architecture, tag).get("quick_gelu"))
    base = architecture.removesuffix(_QUICK)
    other = base + _QUICK if wants_quick else base
    return Pretrained(other if (other, tag) in _pairs() else architecture, tag)


def licence(pair: Pretrained) -> str:
    """Return the weights' licence as far as it follows from their family, else "see source"."""
    name = f"{pair.architecture}/{pair.tag}"
    return next((licence for pattern, licence in _LICENCES if re.search(pattern, name)), UNKNOWN_LICENCE)


@cache
def _pairs() -> frozenset[tuple[str, str]]:
    return frozenset(open_clip.list_pretrained())


@cache
def _single_tags() -> dict[str, Pretrained]:
    """The architectures with one tag only, by their short name."""
    tags = defaultdict(list)
    for pair in catalogue().values():
        tags[_slug(pair.architecture.removesuffix(_QUICK))].append(pair)
    return {base: pairs[0] for base, pairs in tags.items() if len(pairs) == 1}


def _slug(text: str) -> str:
    return text.lower().replace("_", "-")
