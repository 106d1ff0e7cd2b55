"""The files of a model of transformers: in a folder, or in the hub's local cache. No code of a repository is run."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download, snapshot_download, try_to_load_from_cache

from mmret.backbones.checkpoints import first_of
from mmret.errors import InputError

_WEIGHTS = "*.safetensors"


def read_config(source: str, name: str) -> dict[str, Any]:
    """Return a JSON file of a folder or of a hub's repository; {} where the folder or repository has none.

    `config.json` must be there. A repository that was never downloaded is asked for it. Raises `InputError`.
    """
    path = Path(source) / name
    if not Path(source).is_dir():
        found = _from_hub(source, name)
        if found is None:
            return {}
        path = found
    if not path.is_file():
        if name != "config.json":
            return {}
        raise InputError(f"{source} holds no config.json: name a folder in transformers' layout.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}).") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no object.")
    return content


def _from_hub(repository: str, name: str) -> Path | None:
    if len(Path(repository).parts) != 2 or repository.startswith((".", "/", "~")):
        raise InputError(
            f"{repository} does not exist: give a folder, or a name of the hub such as OWNER/MODEL."
        )
    cached = try_to_load_from_cache(repository, name)
    if isinstance(cached, str):
        return Path(cached)
    try:
        return Path(hf_hub_download(repository, name))
    except Exception as error:  # the hub's client raises whatever its many layers do
        if name != "config.json":
            return None
        raise InputError(
            f"{repository} is neither a folder nor in the hub's local cache, and cannot be fetched "
            f"({type(error).__name__}): give a folder, or connect to the hub once."
        ) from error


def model_folder(source: str, revision: str) -> Path:
    """Return the folder of a model's files, fetching those of a hub's repository; raises `InputError`."""
    if Path(source).is_dir():
        return Path(source)
    commit = revision.partition("+")[0].rpartition("@")[2]
    try:
        return Path(
            snapshot_download(source, revision=commit, allow_patterns=["*.json", "*.model", _WEIGHTS])
        )
    except Exception as error:  # the hub's client raises whatever its many layers do
        raise InputError(
            f"{source} is not in the hub's local cache and cannot be fetched ({type(error).__name__}): connect to the "
            "hub once, or name a folder."
        ) from error


def cached_commit(repository: str) -> str:
    """Return the commit of the snapshot in the hub's local cache, "main" where there is none."""
    cached = try_to_load_from_cache(repository, "config.json")
    return Path(cached).parent.name if isinstance(cached, str) else "main"


def hub_revision(repository: str) -> str:
    """Return what marks a repository's weights: its name and the commit in the local cache."""
    return f"{repository}@{cached_commit(repository)}"


def config_files(folder: Path) -> list[Path]:
    """Return the files of a folder that decide its vectors: weights, configurations, tokenizer; raises `InputError`."""
    weights = sorted(folder.glob(_WEIGHTS))
    if not weights:
        raise InputError(f"{folder} holds no weights: expected files ending in .safetensors.")
    others = [file for file in sorted(folder.iterdir()) if file.suffix in (".json", ".txt", ".model")]
    return [*weights, *others]


def refuse_unread(missing: Any, mismatched: Any, source: str) -> None:
    """Raise `InputError` if weights of a model were not in its files, and so are random; the first are named."""
    absent = sorted([*map(str, missing), *(str(item[0]) for item in mismatched)])
    if absent:
        raise InputError(
            f"{source} lacks {len(absent)} weights of its model, or has them in other shapes: "
            f"{first_of(absent)}; they would be random."
        )
