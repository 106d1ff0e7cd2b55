"""LoRA and DoRA through peft: adapters that load completely or not at all, and adapters to train."""

import importlib.util
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from mmret.backbones.checkpoints import first_of, reading
from mmret.errors import InputError, missing_extra

if TYPE_CHECKING:
    from peft import LoraConfig

DSE_TARGETS = r".*\.\w+_proj"
"""The linear maps called `*_proj`; a regular expression over the whole of a module's name.

They are those of attention and of gated MLPs, in the language model and, where it names them so, in the vision tower:
CLIP's and SigLIP's attention, Qwen2.5-VL's MLP (not Qwen2-VL's or Qwen3-VL's), Phi-4's audio tower as well. In
Phi-3-vision they are just those that DSE's code names (texttron/tevatron, examples/dse/arguments.py), in both towers.
"""

_LORA = re.compile(r"\.lora_|\.lora\.|lora_magnitude_vector")
_OUTER = re.compile(r"^(?:base_model\.model\.|module\.)*")
_WRAPPERS = ("", "model.", "vlm.", "vlm.model.", "language_model.", "model.language_model.")


@dataclass(frozen=True)
class AdapterSettings:
    """How a new adapter is made; the defaults are DSE's (arXiv 2406.11251).

    Attributes:
        rank: Of its two factors, from 1.
        alpha: Over `rank`, the factor on what it adds.
        dropout: Share of its inputs that a step leaves out, less than 1.
        dora: Learn lengths beside directions.
        targets: Which modules get one: a regular expression over the whole of a module's name.

    Raises:
        InputError: A value that cannot be.
    """

    rank: int = 8
    alpha: int = 64
    dropout: float = 0.1
    dora: bool = False
    targets: str = DSE_TARGETS

    def __post_init__(self) -> None:
        """Refuse values that cannot be: peft would blame something else, or nobody."""
        rank, alpha, dropout = self.rank, self.alpha, self.dropout
        rules = {
            "rank": (_is_number(rank) and isinstance(rank, int) and rank >= 1, "a whole number from 1"),
            "alpha": (_is_number(alpha) and alpha > 0, "a number above 0"),
            "dropout": (_is_number(dropout) and 0 <= dropout < 1, "a share from 0 to less than 1"),
            "dora": (isinstance(self.dora, bool), "true or false"),
            "targets": (_is_pattern(self.targets), "a regular expression"),
        }
        for name, (right, wanted) in rules.items():
            if not right:
                raise InputError(f"adapter has the {name} {getattr(self, name)!r}; give {wanted}.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_pattern(value: object) -> bool:
    try:
        return isinstance(value, str) and re.compile(value) is not None
    except re.error:
        return False


def load_adapter(model: nn.Module, folder: Path) -> nn.Module:
    """Put the adapter of a folder into a model, and return it (changed in place).

    Names in the file may have been made for the model that generates (`model.…`), ours is the base model inside it:
    wrapping names are taken off as far as a module of that name is there. Raises `InputError` where a file is damaged,
    and, naming keys, where a key has no place, or a place is left without its weights, which would then be random.
    """
    _require_peft()
    from peft import LoraConfig, PeftConfig, inject_adapter_in_model

    with reading(folder, "an adapter of this model"):
        config = PeftConfig.from_pretrained(str(folder))
        if not isinstance(config, LoraConfig):
            raise InputError(f"{folder} holds a {type(config).__name__}: adapters are LoRA's (or DoRA's).")
        config.inference_mode = True
        inject_adapter_in_model(config, model)
    fill_adapter(model, folder)
    return model


def fill_adapter(model: nn.Module, folder: Path) -> None:
    """Give a model's adapter the weights of a folder, in the number format that its own have; see `load_adapter`."""
    from safetensors.torch import load_file

    with reading(folder, "an adapter of this model"):
        state = load_file(folder / "adapter_model.safetensors")
    _fill(model, state, folder)


def _lora_config(settings: AdapterSettings) -> "LoraConfig":
    """The settings as peft's own."""
    from peft import LoraConfig

    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_dora=settings.dora,
        target_modules=settings.targets,
    )


def add_adapter(model: nn.Module, settings: AdapterSettings) -> nn.Module:
    """Put a new adapter into a model (changed in place); it changes no vector until it is trained.

    Raises `InputError` where no module has a name that fits, and for a model that has an adapter: peft would put the
    new one in its place, without a word.
    """
    _require_peft()
    from peft import inject_adapter_in_model

    if adapter_parameters(model):
        raise InputError(
            "the model has an adapter already, which a new one would displace: go on training that one "
            "(`adapter: null`), or leave it out of the model's name."
        )
    try:
        inject_adapter_in_model(_lora_config(settings), model)
    except ValueError as error:
        raise InputError(
            f"the model has no modules that match {settings.targets!r} ({str(error)[:200]})."
        ) from error
    return model


def save_adapter(model: nn.Module, folder: Path) -> None:
    """Write a model's adapter as peft's folder, which `load_adapter` reads; weights last, whole or not at all.

    It is described as it was when it was put into the model, by `add_adapter` or by `load_adapter`.
    """
    _require_peft()
    from safetensors.torch import save

    from mmret.atomic import atomic_write

    folder.mkdir(parents=True, exist_ok=True)
    described: Any = model.peft_config
    described["default"].save_pretrained(str(folder))
    tensors = {
        f"base_model.model.{key.replace('.default', '')}": value.detach().cpu().contiguous()
        for key, value in _places(model).items()
    }
    with atomic_write(folder / "adapter_model.safetensors") as file:
        file.write(save(tensors, metadata={"format": "pt"}))


def adapter_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the weights of a model's adapter; none where it has none."""
    return [parameter for name, parameter in model.named_parameters() if _LORA.search(name)]


def _require_peft() -> None:
    if importlib.util.find_spec("peft") is None:
        raise missing_extra("An adapter", "peft", "vlm")


def _places(model: nn.Module) -> dict[str, Tensor]:
    """The adapter's weights in a model by name."""
    return {name: value for name, value in model.state_dict().items() if _LORA.search(name)}


def _fill(model: nn.Module, state: Mapping[str, Tensor], folder: Path) -> None:
    places = _places(model)
    by_name = {name.replace(".default", ""): name for name in places}
    found: dict[str, Tensor] = {}
    unexpected = []
    for key, value in state.items():
        name = _inner(key, by_name)
        if name is None or places[name].shape != value.shape:
            unexpected.append(key)
        else:
            found[name] = value
    _refuse("has weights that no part of the model takes", unexpected, folder)
    _refuse("lacks weights that the model needs", sorted(places.keys() - found.keys()), folder)
    model.load_state_dict(found, strict=False)


def _inner(key: str, by_name: Mapping[str, str]) -> str | None:
    """The model's name for a key of the file: without peft's own words in front, and without a wrapper's."""
    bare = _OUTER.sub("", key)
    candidates = [bare.removeprefix(prefix) for prefix in _WRAPPERS]
    candidates += [f"{prefix}{bare}" for prefix in _WRAPPERS]
    candidates += [f"language_model.{bare.removeprefix('model.')}"]
    return next((by_name[name] for name in candidates if name in by_name), None)


def _refuse(what: str, keys: Iterable[str], folder: Path) -> None:
    wrong = list(keys)
    if wrong:
        raise InputError(f"the adapter in {folder} {what}: {first_of(wrong)}; nothing of it is used.")
