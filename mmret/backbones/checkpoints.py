"""Weights on disk: which files are taken, what marks their bytes, and what is said when they do not fit."""

import hashlib
import pickle
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from mmret.errors import InputError

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
"""safetensors, and pickles of which only tensors and plain values are read."""

# What torch, safetensors, open_clip, transformers and peft raise for a file that is no mapping of names to tensors.
_DAMAGE = (
    pickle.UnpicklingError,
    SafetensorError,
    EOFError,
    AttributeError,
    StopIteration,
    KeyError,
    TypeError,
)
# The same for a folder that is no model, or none of the kind that is asked for.
_NO_SUCH_MODEL = (OSError, ValueError, ImportError, StrictDataclassError, re.error)
_NAMED = 5
_URL_HASH = re.compile(r"/([0-9a-f]{64})/|-([0-9a-f]{8})\.pt$")


def has_weights(folder: Path) -> bool:
    """Whether the folder holds a file of weights."""
    return any(file.suffix in SUFFIXES for file in folder.iterdir())


def find_weights(path: Path) -> Path:
    """Return the weights file at `path`, or the one in the folder `path`; raises `InputError`.

    Of several files in a folder the safetensors are taken first, then the one whose name sorts first.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
        files.sort(key=lambda file: SUFFIXES.index(file.suffix))
        if not files:
            raise InputError(f"{path} holds no weights: expected a file ending in {' or '.join(SUFFIXES)}.")
        return files[0]
    if not path.is_file():
        raise InputError(f"the checkpoint {path} does not exist.")
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path} is no readable checkpoint: use one ending in {' or '.join(SUFFIXES)}.")
    return path


def file_revision(*paths: Path) -> str:
    """Return `sha256:…` over the bytes of the files, remembered while they stay as they are."""
    digest = hashlib.sha256()
    for path in paths:
        stat = path.stat()
        digest.update(_file_digest(path, stat.st_size, stat.st_mtime_ns))
    return f"sha256:{digest.hexdigest()[:32]}"


@cache
def _file_digest(path: Path, size: int, mtime_ns: int) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def published_revision(url: str, repository: str, filenames: tuple[str, ...]) -> str:
    """Return an immutable mark of published weights, without asking the network.

    That is the checksum in the URL they were first published under, else the commit of the hub's snapshot
    that lies in the local cache. Weights that were never downloaded have neither: their mark ends in
    "@main", and a loaded backbone's spec replaces it by the commit.
    """
    found = _URL_HASH.search(url)
    if found:
        return f"sha256:{(found[1] or found[2])[:32]}"
    for filename in filenames:
        cached = try_to_load_from_cache(repository, filename)
        if isinstance(cached, str):
            return f"{repository}@{Path(cached).parent.name}"
    return f"{repository}@main"


@contextmanager
def reading(path: Path | str, architecture: str) -> Iterator[None]:
    """Turn what goes wrong while a model is read into an `InputError` that names the file or folder and the cause.

    That is damage, weights of another model, a missing file or package, or a setting that the model does not know.
    """
    try:
        yield
    except InputError:
        raise
    except RuntimeError as error:
        raise InputError(_why_unfit(str(error), path, architecture)) from error
    except _DAMAGE as error:
        raise InputError(
            f"{path} is damaged or holds more than tensors ({type(error).__name__}: {_told(error)}), and is not read: "
            "fetch it again, or export the state dict as safetensors."
        ) from error
    except _NO_SUCH_MODEL as error:
        raise InputError(f"{path} cannot be read as {architecture} ({_told(error)}).") from error


def _told(error: Exception) -> str:
    """Return what an error says, on one line and not much of it."""
    return " ".join(str(error).split())[:300].rstrip(".")


def first_of(keys: Sequence[str]) -> str:
    """Return the first few of some keys, and how many more there are, as text."""
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return ", ".join(keys[:_NAMED]) + more


def _why_unfit(message: str, path: Path | str, architecture: str) -> str:
    """Return one sentence from torch's many lines."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if "loading state_dict" in lines[0] and len(lines) > 1:
        return (
            f"the weights in {path} are not for the architecture {architecture} "
            f"({lines[1].rstrip('.')[:200]}): name the architecture they were made for."
        )
    return f"{path} cannot be read as a checkpoint ({lines[0].rstrip('.')[:200]}): export it as safetensors."
