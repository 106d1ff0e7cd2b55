"""What `mmret fit|validate|test|predict` accepts: jsonargparse's merging, with its surprises taken out.

Five of them live here. A config that changes a class starts from that class's own defaults (jsonargparse
would keep those of the old class's arguments that fit the new one). A list replaces an earlier one whole
(jsonargparse would merge the members of two lists of one length). The hyper-parameters in a checkpoint are
the weakest configuration of all (Lightning would let them beat the command line). A mistake is told in one
sentence that names the key (jsonargparse prints a page of usage). A default that is a member of an enumeration
of texts is written as its text (PyYAML would refuse it, and with it the callbacks Timer and others).
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import Namespace, _typehints

from mmret.errors import InputError

_logger = logging.getLogger(__name__)

#: Lines of jsonargparse's messages that say nothing a reader can act on: other types that it tried as well, its own
#: bookkeeping, and its advice on how a class may be written.
_NOISE = re.compile(
    r"Does not validate against|Subtypes:|Errors:|Given value|Expected a <class 'NoneType'>|Expected a path but"
    r"|Not a valid subclass of \w+$|Subclass types expect|a (class path|dict with|dict without)\b"
)


def one_sentence(message: str) -> str:
    """The lines of a jsonargparse message that name the key and the mistake, joined into one."""
    lines = (line.strip().removeprefix("- ").strip() for line in message.splitlines())
    return " ".join(line for line in lines if line and not _NOISE.match(line))


class _Dumper(yaml.SafeDumper):
    """Writes plain values, and members of an enumeration by their values."""


_Dumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))


def write_yaml(values: Any) -> str:
    """A configuration as YAML, keys in their order. jsonargparse also writes one to compare classes."""
    text: str = yaml.dump(
        values, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False
    )
    return text


@contextmanager
def fresh_arguments_for_a_new_class() -> Iterator[None]:
    """Within: when a later config or option changes a class, none of the old class's arguments survive.

    What was dropped is said once, as warnings, at the end. jsonargparse decides this in one function, which
    has no public switch; `tests/test_cli.py` holds the behaviour, and `setup.cfg` bounds the versions.
    """
    notes: dict[str, None] = {}

    def forget(_: Any, previous: Any, value: Any) -> None:
        if previous and "init_args" in previous and previous["class_path"] != value["class_path"]:
            arguments = ", ".join(f"{name}={setting!r}" for name, setting in previous["init_args"].items())
            previous["init_args"] = Namespace()  # type: ignore[no-untyped-call]
            change = f"the class changes from {previous['class_path']} to {value['class_path']}"
            if arguments:
                notes[f"{change}; dropped the arguments of the former: {arguments}"] = None

    original = _typehints.discard_init_args_on_class_path_change
    _typehints.discard_init_args_on_class_path_change = forget
    try:
        yield
    finally:
        _typehints.discard_init_args_on_class_path_change = original
        for note in notes:
            _logger.warning(note)


@contextmanager
def whole_lists() -> Iterator[None]:
    """Within: a later list replaces an earlier one, and its members take nothing from those in the same places.

    What grows a list (`callbacks+:`) or names one argument of its last member (`callbacks.dirpath`) stays as it is.
    jsonargparse has no public switch for this either.
    """
    module: Any = _typehints
    original = module.adapt_typehints

    def adapt(value: Any, *types: Any, **options: Any) -> Any:
        if isinstance(value, list) and not options.get("append"):
            options["prev_val"] = None
        return original(value, *types, **options)

    module.adapt_typehints = adapt
    try:
        yield
    finally:
        module.adapt_typehints = original


def checkpoint_hyperparameters(path: Path) -> dict[str, Any]:
    """The hyper-parameters that a checkpoint carries, `_class_path` among them; empty when it has none.

    The file is read as tensors and plain values only, so that it cannot run code.

    Raises:
        InputError: The file is no checkpoint that can be read safely.
    """
    try:
        checkpoint = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
        stored = dict(checkpoint.get("hyper_parameters", {}))
    except Exception as error:  # torch and pickle raise half a dozen kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"cannot read the checkpoint {path} ({reason}); give a file that `mmret fit` wrote"
        ) from error
    stored.pop("_instantiator", None)
    return stored


def weakest_config(subcommand_config: Namespace) -> list[str]:
    """Arguments that put a checkpoint's hyper-parameters before all others: anything explicit beats them.

    Args:
        subcommand_config: What the explicit arguments alone say, with `model` and perhaps `ckpt_path`.

    Returns:
        `["--config", YAML]`, or nothing when there is no checkpoint, or one of another class.
    """
    path = subcommand_config.get("ckpt_path")
    if not path or not Path(path).is_file():
        return []
    stored = checkpoint_hyperparameters(Path(path))
    class_path = stored.pop("_class_path", None)
    if class_path is None or class_path != subcommand_config["model"]["class_path"]:
        return []
    config = {"model": {"class_path": class_path, "init_args": stored}}
    return ["--config", yaml.safe_dump(config, default_flow_style=True, width=float("inf"))]
