"""From the name of a page encoder to its spec, without its weights.

`NAME?key=value&key=value`, where NAME is a preset (`vlm_presets.py`), `vlm:FOLDER`, `vlm:OWNER/MODEL` (of the Hugging
Face hub) or the path of a folder. A folder may bring its recipe in `mmret_encoder.json`; else its family's is taken.

| key | what it sets |
|---|---|
| `pooling` | a name of `pooling.py` |
| `width` | how many numbers of a vector are kept (Matryoshka) |
| `like` | a preset whose prompts, pooling, padding and resizing are taken; `smart` in the model's own squares |
| `adapter` | a folder with a LoRA or DoRA adapter of peft |
| `quantise` | `8bit` or `4bit`, by bitsandbytes |
| `attention` | transformers' name of an implementation; by default flash attention where it is there, else sdpa |
| `compile` | `true`: torch.compile; `false` |
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from mmret.backbones.checkpoints import file_revision
from mmret.backbones.pooling import parse_pooling
from mmret.backbones.resizing import TILE, parse_resizing, step_of
from mmret.backbones.spec import BackboneSpec
from mmret.backbones.vlm_families import WRAPPERS, Family, Recipe, family_of
from mmret.backbones.vlm_presets import PRESETS
from mmret.errors import InputError, nearest

PREFIX = "vlm:"
CONFIG = "config.json"
RECIPE = "mmret_encoder.json"
_OPTIONS = ("pooling", "width", "like", "adapter", "quantise", "attention", "compile")
_QUANTISATIONS = ("", "8bit", "4bit")
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_UNKNOWN = "see source"


@dataclass(frozen=True)
class VlmSpec(BackboneSpec):
    """The spec of a page encoder: what a `BackboneSpec` has, and how pages and queries are put to the model.

    `weights` is a folder or a hub's name; `preprocess` is a name of `resizing.py`; `image_size` is the side of a tile
    where pages are cut into tiles, else 0; `context_length` is 0 (nothing is cut). `step` is what the sides of a page
    have to be multiples of, in pixels (1 where the model's processor resizes whatever comes).
    """

    document_prompt: str = ""
    query_prompt: str = ""
    padding_side: str = "right"
    adapter: str = ""
    quantise: str = ""
    attention: str = ""
    compile: bool = False
    step: int = 1

    def fingerprint(self, precision: str = "fp32") -> dict[str, str]:
        """What decides the vectors: also pooling and prompts; not padding, attention or compilation."""
        told = ("pooling", "document_prompt", "query_prompt", "quantise")
        return {**super().fingerprint(precision), **{name: str(getattr(self, name)) for name in told}}


def is_vlm_name(name: str) -> bool:
    """Whether a name belongs to this loader: a preset, `vlm:…`, or a folder with a model of transformers."""
    base = name.partition("?")[0]
    folder = Path(base)
    described = (folder / CONFIG).is_file() and not (folder / "open_clip_config.json").exists()
    return base in PRESETS or base.startswith(PREFIX) or described


def describe(name: str) -> VlmSpec:
    """Return the spec of a name; raises `InputError`."""
    base, options = _split(name)
    spec = (
        _preset_spec(name, base) if base in PRESETS else _folder_or_hub_spec(name, base.removeprefix(PREFIX))
    )
    return _with_options(spec, options)


def _split(name: str) -> tuple[str, dict[str, str]]:
    base, _, tail = name.partition("?")
    options: dict[str, str] = {}
    for item in filter(None, tail.split("&")):
        key, equals, value = item.partition("=")
        if key not in _OPTIONS or not equals:
            raise InputError(
                f"{name!r} has the option {item!r}; write {', '.join(_OPTIONS)} as in ?width=512."
            )
        options[key] = value
    return base, options


def _preset_spec(name: str, base: str) -> VlmSpec:
    from mmret.backbones.vlm_files import cached_commit

    preset = PRESETS[base]
    commit = preset.revision if preset.revision != "main" else cached_commit(preset.repository)
    revision = f"{preset.repository}@{commit}"
    return _spec(
        name, preset.family, preset.recipe, preset.repository, revision, preset.width, preset.licence
    )


def _folder_or_hub_spec(name: str, source: str) -> VlmSpec:
    from mmret.backbones.vlm_files import config_files, hub_revision, read_config

    config = read_config(source, CONFIG)
    family = family_of(config, source)
    images = read_config(source, "preprocessor_config.json") or read_config(source, "processor_config.json")
    images = images.get("image_processor", images)
    family = replace(
        family, recipe=replace(family.recipe, resizing=own_resizing(family.recipe.resizing, images))
    )
    recipe = Recipe(**{**asdict(family.recipe), **_own_recipe(Path(source) / RECIPE)})
    if config.get("model_type") in WRAPPERS:
        recipe = replace(recipe, pooling="tokens")
    folder = Path(source)
    revision = file_revision(*config_files(folder)) if folder.is_dir() else hub_revision(source)
    spec = _spec(name, family, recipe, source, revision, _width(config, source), _UNKNOWN)
    mean, std = images.get("image_mean") or family.mean, images.get("image_std") or family.std
    return replace(spec, mean=tuple(mean), std=tuple(std))


def as_loaded(spec: VlmSpec) -> VlmSpec:
    """Return the spec of a model that was just loaded: a hub's revision is now a commit, which lies in the cache."""
    from mmret.backbones.vlm_files import hub_revision

    weights, plus, adapter = spec.revision.partition("+")
    if not weights.endswith("@main"):
        return spec
    return replace(spec, revision=f"{hub_revision(spec.weights)}{plus}{adapter}")


def _own_recipe(path: Path) -> dict[str, Any]:
    """What a folder says of itself; raises `InputError` for anything that is not part of a recipe."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}).") from error
    known = {field.name for field in fields(Recipe)}
    if (
        not isinstance(found, dict)
        or not set(found) <= known
        or not all(isinstance(v, str) for v in found.values())
    ):
        raise InputError(
            f"{path} is to hold texts under some of {', '.join(sorted(known))}, and nothing else."
        )
    return found


def own_resizing(default: str, images: Mapping[str, Any]) -> str:
    """Return the resizing of a family with the numbers that a checkpoint's image processor has."""
    kind, numbers = parse_resizing(default)
    size = images.get("size") or {}
    if kind == "smart":
        factor = images.get("patch_size", numbers[0] // 2) * images.get("merge_size", 2)
        least = images.get("min_pixels") or size.get("shortest_edge") or numbers[1] * factor**2
        most = images.get("max_pixels") or size.get("longest_edge") or numbers[2] * factor**2
        return f"smart-{factor}-{max(1, least // factor**2)}-{max(1, most // factor**2)}"
    if kind == "square" and size.get("height"):
        return f"square-{size['height']}"
    if kind == "longest" and size.get("longest_edge"):
        return f"longest-{size['longest_edge']}"
    return default


def _width(config: Mapping[str, Any], source: str) -> int:
    """The width of a vector before it is cut: the projection's, or that of the language model's states."""
    if config.get("model_type") in WRAPPERS:
        return int(config.get("embedding_dim", 128))
    text = config.get("text_config") or config
    width = text.get("hidden_size") or config.get("hidden_size")
    if not isinstance(width, int):
        raise InputError(f"the {CONFIG} of {source} does not say how wide its states are (hidden_size).")
    return width


def _spec(
    name: str, family: Family, recipe: Recipe, weights: str, revision: str, width: int, licence: str
) -> VlmSpec:
    return _with_recipe(
        VlmSpec(
            name=name,
            loader="vlm",
            architecture=family.name,
            weights=weights,
            revision=revision,
            width=width,
            pooling=recipe.pooling,
            preprocess=recipe.resizing,
            image_size=336 if family.name == "phi3-vision" else 0,
            context_length=0,
            licence=licence,
            mean=family.mean,
            std=family.std,
            step=step_of(family.recipe.resizing) if family.stepped else 1,
        ),
        recipe,
    )


def check_resizing(spec: VlmSpec, name: str) -> None:
    """Raise `InputError` unless `name` is a resizing to sides that the model of a spec takes."""
    if step_of(name, spec.image_size or TILE) % spec.step:
        raise InputError(
            f"{spec.name} takes pages whose sides are multiples of {spec.step} pixels, which {name!r} does not give: "
            "use own (its own), or square-N or smart-N-MIN-MAX with such an N."
        )


def _with_recipe(spec: VlmSpec, recipe: Recipe) -> VlmSpec:
    """The spec with a recipe's prompts, pooling, padding and resizing; raises `InputError` for one that cannot be."""
    parse_pooling(recipe.pooling)
    check_resizing(spec, recipe.resizing)
    if (
        "{image}" not in recipe.document
        or "{text}" not in recipe.query
        or recipe.padding_side not in ("left", "right")
    ):
        raise InputError(
            f"the recipe of {spec.name} needs a document's prompt with {{image}}, a query's with {{text}}, and the "
            "padding side left or right."
        )
    return replace(
        spec,
        pooling=recipe.pooling,
        preprocess=recipe.resizing,
        document_prompt=recipe.document,
        query_prompt=recipe.query,
        padding_side=recipe.padding_side,
    )


def _in_own_squares(spec: VlmSpec, recipe: Recipe) -> Recipe:
    """The recipe of another model, whose counts of squares stay while the squares become this model's."""
    family, numbers = parse_resizing(recipe.resizing)
    if family != "smart" or spec.step == 1:
        return recipe
    return replace(recipe, resizing=f"smart-{spec.step}-{numbers[1]}-{numbers[2]}")


def _with_options(spec: VlmSpec, options: Mapping[str, str]) -> VlmSpec:
    if "like" in options:
        if options["like"] not in PRESETS:
            raise InputError(f"there is no preset {options['like']!r}{nearest(options['like'], PRESETS)}.")
        spec = _with_recipe(spec, _in_own_squares(spec, PRESETS[options["like"]].recipe))
    if "pooling" in options:
        parse_pooling(options["pooling"])
        spec = replace(spec, pooling=options["pooling"])
    if options.get("quantise", "") not in _QUANTISATIONS:
        raise InputError(f"{spec.name} asks to quantise to {options['quantise']!r}: 8bit and 4bit are known.")
    if options.get("compile", "true") not in ("true", "false"):
        raise InputError(f"{spec.name} asks for compile={options['compile']}: write true or false.")
    spec = replace(
        spec,
        quantise=options.get("quantise", spec.quantise),
        attention=options.get("attention", spec.attention),
        compile=options.get("compile", "false") == "true",
    )
    spec = _narrowed(spec, options["width"]) if "width" in options else spec
    return _adapted(spec, Path(options["adapter"])) if "adapter" in options else spec


def _narrowed(spec: VlmSpec, width: str) -> VlmSpec:
    if not width.isdecimal() or not 1 <= int(width) <= spec.width:
        raise InputError(f"{spec.name} has vectors of {spec.width} numbers: a width lies between 1 and that.")
    return replace(spec, width=int(width))


def _adapted(spec: VlmSpec, folder: Path) -> VlmSpec:
    files = [folder / file for file in _ADAPTER_FILES]
    absent = [file.name for file in files if not file.is_file()]
    if absent:
        raise InputError(
            f"{folder} holds no adapter of peft: {' and '.join(absent)} missing (safetensors only)."
        )
    return replace(spec, adapter=str(folder), revision=f"{spec.revision}+{file_revision(*files)}")
