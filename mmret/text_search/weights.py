"""What marks the weights of a text model: the digest of a folder's files, or a commit of the hub."""

import hashlib
from pathlib import Path
from typing import Final

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

_FILES: Final = (".safetensors", ".bin", ".json")
_CONFIGS: Final = ("config.json", "modules.json")


def weights_digest(folder: Path) -> str:
    """SHA-256 (64 hexadecimal digits) over the weights and configurations in a folder, at any depth."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in _FILES):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def cached_commit(model: str) -> str | None:
    """The commit of a hub's model in the local cache, which is what loads without a network; None if none is there."""
    try:
        found = [try_to_load_from_cache(model, name) for name in _CONFIGS]
    except HFValidationError:  # no name that a hub could have
        return None
    return next((Path(path).parent.name for path in found if isinstance(path, str)), None)
