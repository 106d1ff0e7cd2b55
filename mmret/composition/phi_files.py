"""Files of φ: ours, and the checkpoints that the methods' authors released.

| layout | whose | tensors under |
|---|---|---|
| `.safetensors` | `save_phi` | the keys of the network, the backbone's name in the metadata |
| `{"Phi": tensors, …}` | SEARLE, LinCIR, `save_phi` | `Phi` |
| `{"state_dict_img2text": tensors, …}` | Pic2Word | `state_dict_img2text`, which may begin with `module.` |

Which network it is follows from the keys, its widths from the shapes. Nothing in a file is executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mmret.atomic import atomic_write
from mmret.composition.phi import NETWORKS, Phi
from mmret.errors import InputError

PICKLES = (".pt", ".pth", ".ckpt")
_STATES = ("Phi", "state_dict_img2text")


class Published(NamedTuple):
    """Where a released φ lies on the Hugging Face hub or under a URL, and the backbone it was trained with."""

    backbone: str
    url: str = ""
    repository: str = ""
    file: str = ""


_SEARLE = "https://github.com/miccunifi/SEARLE/releases/download/weights/"

PUBLISHED = {
    "searle-vit-b-32": Published("clip-vit-b-32", url=f"{_SEARLE}SEARLE_ViT-B32.pt"),
    "searle-vit-l-14": Published("clip-vit-l-14", url=f"{_SEARLE}SEARLE_ViT-L14.pt"),
    "lincir-vit-l-14": Published(
        "clip-vit-l-14", repository="navervision/zeroshot-cir-models", file="lincir_large.pt"
    ),
}
"""Released weights by name. Pic2Word's lie behind a form of a file host: fetch them and give the path.

SEARLE's licence is CC BY-NC 4.0, and so is that of LinCIR's repository.
"""


def save_phi(phi: Phi, path: str | Path) -> None:
    """Write φ's weights and its backbone's name to `path`, whole or not at all.

    A name that ends in `.pt` or `.pth` gets the pickle that SEARLE's and LinCIR's code reads
    (`{"Phi": tensors, "backbone": name}`), any other a safetensors file with the name in its metadata.

    Raises:
        InputError: the file cannot be written.
    """
    target = Path(path)
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in phi.state_dict().items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as handle:
        if target.suffix in PICKLES:
            # Through memory: on a full disk torch's own writer raises what `atomic_write` does not know.
            buffer = BytesIO()
            torch.save({"Phi": tensors, "backbone": phi.backbone}, buffer)
            handle.write(buffer.getvalue())
        else:
            handle.write(save(tensors, metadata={"backbone": phi.backbone or ""}))


def load_phi(source: str | Path, *, backbone: str | None = None) -> Phi:
    """Read φ from a file, or a released one by its name, in evaluation mode, float32, on the CPU.

    Args:
        source: a path (see this module's table), a name of `PUBLISHED`, or `hub:OWNER/REPOSITORY/FILE`; the
            latter two are downloaded on their first use.
        backbone: the name of the backbone it is to be used with; compared with the one in the file, where
            there is one.

    Raises:
        InputError: if the file is missing or unreadable, holds other things than tensors or another layout,
            or was made for another backbone.
    """
    path, made_for = _locate(source)
    tensors, named = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    made_for = named or made_for
    if backbone is not None and made_for is not None and made_for != backbone:
        raise InputError(f"φ in {path} was made for {made_for}, not for {backbone}; load that backbone.")
    return _build(path, tensors, made_for or backbone)


def _locate(source: str | Path) -> tuple[Path, str | None]:
    """The local file of a path or a name, and the backbone that a name stands for."""
    name = str(source)
    if name in PUBLISHED:
        published = PUBLISHED[name]
        return _fetched(name, published), published.backbone
    if name.startswith("hub:"):
        owner, _, rest = name.removeprefix("hub:").partition("/")
        repository, _, file = rest.partition("/")
        if not (owner and repository and file):
            raise InputError(f"{name} is no file of the hub; write hub:OWNER/REPOSITORY/FILE.")
        return _fetched(name, Published("", repository=f"{owner}/{repository}", file=file)), None
    path = Path(source)
    if not path.is_file():
        raise InputError(
            f"no φ at {path}; give the path of a .safetensors or .pt file, or one of {', '.join(PUBLISHED)}."
        )
    return path, None


def _fetched(name: str, published: Published) -> Path:
    """A released file in the local cache (torch's or the hub's), downloaded when it is not there."""
    cached = Path(torch.hub.get_dir()) / "checkpoints" / published.url.rpartition("/")[2]
    try:
        if published.repository:
            from huggingface_hub import hf_hub_download

            return Path(hf_hub_download(published.repository, published.file))
        if not cached.is_file():
            cached.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(published.url, str(cached))
    except Exception as error:  # the two ways of downloading raise a dozen kinds
        place = f"save the file as {cached}" if published.url else "connect to the hub once"
        raise InputError(
            f"φ {name} is not in the local cache and cannot be fetched ({type(error).__name__}); {place}, or give "
            "a path."
        ) from error
    return cached


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """Tensors and backbone name of a safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            keys, metadata = file.keys(), file.metadata() or {}
            return dict(zip(keys, map(file.get_tensor, keys), strict=True)), metadata.get("backbone") or None
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file ({error}); fetch or save it again.") from error


def _read_pickle(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """Tensors and backbone name of a pickle, read without executing anything in it."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise InputError(
            f"{path} is not a pickle of tensors only, and no other pickle is read here; save φ with save_phi."
        ) from error
    held = content if isinstance(content, Mapping) else {}
    states = [held[key] for key in _STATES if isinstance(held.get(key), Mapping)]
    if not states:
        raise InputError(
            f'{path} holds neither "Phi" nor "state_dict_img2text"; give a φ file of SEARLE, LinCIR, Pic2Word '
            "or save_phi."
        )
    name = held.get("backbone")
    return dict(states[0]), name if isinstance(name, str) else None


def _build(path: Path, tensors: Mapping[str, Tensor], backbone: str | None) -> Phi:
    """The network whose keys and widths the tensors have; a "module." before the keys (DataParallel) is dropped."""
    tensors = {key.removeprefix("module."): tensor for key, tensor in tensors.items()}
    kind = next((network for network in NETWORKS if set(network.KEYS) == set(tensors)), None)
    if kind is None or any(tensors[key].ndim != 2 for key in kind.KEYS[::2]):
        known = " or ".join(", ".join(network.KEYS[::2]) for network in NETWORKS)
        raise InputError(f"φ in {path} has the tensors {sorted(tensors)[:8]}; needed are {known} and biases.")
    hidden, source = tensors[kind.KEYS[0]].shape
    phi = kind(source, hidden, tensors[kind.KEYS[-2]].shape[0], backbone=backbone)
    try:
        phi.load_state_dict({key: tensor.float() for key, tensor in tensors.items()})
    except RuntimeError as error:
        raise InputError(f"the tensors of φ in {path} do not fit together: {error}.") from error
    return phi.eval()
