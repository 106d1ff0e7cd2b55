"""From a name of open_clip's, or the path of a local folder, to a spec and to the model's configuration."""

import json
from pathlib import Path
from typing import Any

import open_clip
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

from mmret.backbones.checkpoints import file_revision, find_weights, has_weights, published_revision
from mmret.backbones.openclip_names import UNKNOWN_LICENCE, Pretrained, find, licence, matching, short_name
from mmret.backbones.spec import BackboneSpec
from mmret.errors import InputError

CONFIG = "open_clip_config.json"
"""A local folder's description: `model_cfg` and `preprocess_cfg`, as open_clip writes it for a hub."""

UNTRAINED = "untrained"
"""The revision of an architecture without weights."""

LOCAL = "local"
"""The architecture of a spec whose model is described beside its weights."""

_GEOMETRIES = {"shortest": "center-crop", "longest": "letterbox", "squash": "squash"}
"""open_clip's `resize_mode` → our name of it."""

_OURS = "preprocess"
"""In a folder's `preprocess_cfg`: a preprocessing by its name here, which open_clip does not know and passes over."""


def describe(name: str) -> BackboneSpec:
    """Return the spec of a short name, of `open_clip:ARCH/TAG-or-FILE`, or of a path; raises `InputError`.

    A folder that describes a model and holds no weights gives a spec of the revision "untrained".
    """
    if (Path(name) / CONFIG).is_file() and not has_weights(Path(name)):
        return architecture_spec(name)
    architecture, weights = _source(name)
    if Path(weights).is_file():
        return _local_spec(name, architecture, Path(weights))
    return published_spec(architecture, weights)


def _source(name: str) -> tuple[str, str]:
    """Return the architecture and the tag or weights file that a name stands for; raises `InputError`."""
    if name.startswith("open_clip:"):
        return _explicit_source(name)
    found = find(name)
    if found is not None:
        return found
    file = find_weights(Path(name))
    if not (file.parent / CONFIG).is_file():
        raise InputError(
            f"{file.parent} holds no {CONFIG}, which says what model the weights are for: add one, or name "
            "the architecture as in open_clip:ViT-B-32/FILE or timm:NAME/FILE."
        )
    return LOCAL, str(file)


def _explicit_source(name: str) -> tuple[str, str]:
    architecture, _, weights = name.removeprefix("open_clip:").partition("/")
    if architecture not in open_clip.list_models():
        raise InputError(
            f"{name!r} names no architecture of open_clip: write open_clip:ARCH/TAG, as in "
            "open_clip:ViT-B-32/laion2b_s34b_b79k."
        )
    if open_clip.get_pretrained_cfg(architecture, weights):
        return matching(architecture, weights)
    tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none"
    if not Path(weights).is_file():
        raise InputError(f"{weights!r} is neither a file nor a tag of {architecture}; its tags are: {tags}.")
    return architecture, str(find_weights(Path(weights)))


def published_spec(architecture: str, tag: str) -> BackboneSpec:
    """Return the spec of a pretrained tag; its revision says what lies in the hub's local cache."""
    published = open_clip.get_pretrained_cfg(architecture, tag)
    config = open_clip.get_model_config(architecture)
    repository, _, filename = published["hf_hub"].rpartition("/")
    filenames = (filename,) if filename else (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)
    return _spec(
        config,
        merge_preprocess_dict(PreprocessCfg(), published),
        name=short_name(matching(architecture, tag)),
        architecture=architecture,
        weights=tag,
        revision=published_revision(published["url"], repository, filenames),
        licence=licence(Pretrained(architecture, tag)),
    )


def architecture_spec(name: str) -> BackboneSpec:
    """Return the spec of an architecture without its weights: a short name, or a described folder.

    Its revision is "untrained", which no store of vectors may carry for long: it names no weights.
    """
    described = Path(name) / CONFIG
    if described.is_file():
        config, preprocess = _read_config(described)
        architecture, weights = LOCAL, str(Path(name) / UNTRAINED)
    else:
        architecture, weights = _source(name)
        config, preprocess = open_clip.get_model_config(architecture), {}
    return _spec(
        config,
        _completed(preprocess),
        name=name,
        architecture=architecture,
        weights=weights,
        revision=UNTRAINED,
        licence=UNKNOWN_LICENCE,
    )


def _local_spec(name: str, architecture: str, file: Path) -> BackboneSpec:
    described = file.parent / CONFIG
    if architecture == LOCAL:
        config, preprocess = _read_config(described)
    else:
        config, preprocess = open_clip.get_model_config(architecture), {}
    return _spec(
        config,
        _completed(preprocess),
        name=name,
        architecture=architecture,
        weights=str(file),
        revision=file_revision(file, *([described] if architecture == LOCAL else [])),
        licence=UNKNOWN_LICENCE,
    )


def _completed(preprocess: dict[str, Any]) -> dict[str, Any]:
    """A folder's `preprocess_cfg` with open_clip's defaults, and with what is ours in it."""
    ours = {_OURS: str(preprocess[_OURS])} if _OURS in preprocess else {}
    return {**merge_preprocess_dict(PreprocessCfg(), preprocess), **ours}


def preprocess_config(spec: BackboneSpec) -> dict[str, Any]:
    """Return the `preprocess_cfg` that gives back the spec's preprocessing; open_clip takes its nearest."""
    modes = {ours: theirs for theirs, ours in _GEOMETRIES.items()}
    kept = {"mean": spec.mean, "std": spec.std, "interpolation": spec.interpolation}
    if spec.preprocess in modes:
        return {**kept, "resize_mode": modes[spec.preprocess]}
    return {**kept, "resize_mode": "shortest", _OURS: spec.preprocess}


def _spec(config: dict[str, Any], preprocess: dict[str, Any], **identity: str) -> BackboneSpec:
    """Complete a spec from a model's and a preprocessing's configuration, with open_clip's defaults."""
    return BackboneSpec(
        loader="open_clip",
        width=config["embed_dim"],
        pooling=text_pooling(config),
        preprocess=preprocess.get(_OURS, _GEOMETRIES[preprocess["resize_mode"]]),
        image_size=config["vision_cfg"].get("image_size", 224),
        context_length=config["text_cfg"].get("context_length", 77),
        mean=tuple(preprocess["mean"]),
        std=tuple(preprocess["std"]),
        interpolation=preprocess["interpolation"],
        **identity,
    )


def text_pooling(config: dict[str, Any]) -> str:
    """Return how the text tower of a model's configuration makes one vector of many tokens."""
    text = config["text_cfg"]
    if text.get("embed_cls"):
        return "cls"
    own = text.get("hf_pooler_type", "mean_pooler") if "hf_model_name" in text else text.get("pool_type")
    return str(own or "argmax")


def _read_config(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return `model_cfg` and `preprocess_cfg` of a folder; raises `InputError`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        model: dict[str, Any] = content["model_cfg"]
        complete = {"embed_dim", "vision_cfg", "text_cfg"} <= model.keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no description of an open_clip model ({error}).") from error
    if not complete:
        raise InputError(f"{path} lacks embed_dim, vision_cfg or text_cfg under model_cfg.")
    return model, content.get("preprocess_cfg") or {}


def model_config(spec: BackboneSpec) -> dict[str, Any]:
    """Return the configuration to build from; a local text tower finds its own description in its folder."""
    if spec.architecture != LOCAL:
        config: dict[str, Any] = open_clip.get_model_config(spec.architecture)
        return config
    folder = Path(spec.weights).parent
    config = _read_config(folder / CONFIG)[0]
    if "hf_model_name" in config["text_cfg"] and (folder / "config.json").is_file():
        config["text_cfg"]["hf_model_name"] = str(folder)
    return config
