"""What a table's cell trains: weights of its method, and the text encoder of its queries, each by `mmret fit`.

Trainings lie beside the tables' results, in a folder named by all that decides them; cells of one training share it.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmret.backbones.base import Backbone
from mmret.backbones.pretraining import WEIGHTS
from mmret.backbones.text_tower import load_text_encoder
from mmret.composition.registry import TRAINED
from mmret.errors import InputError
from mmret.tables.cells import CellRequest

TEXT_ENCODER = "text_encoder.safetensors"


def training_folders(request: CellRequest) -> dict[str, str]:
    """Where what the cell trains lies: `training` of the method's weights, `text_training` of its text encoder."""
    identities = {"training": request.train_identity, "text_training": request.text_identity}
    return {name: str(_folder(request, mark)) for name, mark in identities.items() if mark is not None}


def trained_backbone(request: CellRequest) -> str:
    """The name of the row's backbone, or the folder of the one trained from it.

    A row trains its backbone where its method has no weights of its own.
    """
    if request.train is None or request.method["name"] in TRAINED:
        return request.backbone
    return str(_train(request, request.train, request.train_identity, f"backbone/{WEIGHTS}").parent)


def trained_method(request: CellRequest) -> dict[str, Any]:
    """The row's method, with the weights that its training wrote."""
    method = dict(request.method)
    if request.train is None or method["name"] not in TRAINED:
        return method
    option = TRAINED[method["name"]]
    weights = _train(request, request.train, request.train_identity, f"{option}.safetensors")
    return {**method, option: str(weights)}


def query_encoder(request: CellRequest, backbone: Backbone, method: Mapping[str, Any]) -> Backbone:
    """What encodes the texts of the cell's queries: the backbone, or a tuned text encoder of it."""
    if request.text_encoder is None:
        return backbone
    if "file" in request.text_encoder:
        return load_text_encoder(backbone, request.text_encoder["file"])
    phi = _phi(request, method)
    train = {**request.text_encoder["train"], "model.init_args.phi": phi}
    return load_text_encoder(backbone, _train(request, train, request.text_identity, TEXT_ENCODER))


def _phi(request: CellRequest, method: Mapping[str, Any]) -> str:
    """The φ from which the text encoder is trained."""
    own = (request.text_encoder or {}).get("phi")
    if own is not None:
        return str(_train(request, own, request.phi_identity, "phi.safetensors"))
    if "phi" not in method:
        raise InputError(
            f"Row {request.row} trains a text encoder, and {method['name']} has no φ: give 'phi' beside its 'train'."
        )
    return str(method["phi"])


def _folder(request: CellRequest, identity: str) -> Path:
    return request.folder.parent / "training" / identity[:12]


def _train(request: CellRequest, train: Mapping[str, Any], identity: str | None, name: str) -> Path:
    """The file `name` that a training leaves in its root folder, trained in a process of its own unless it is there."""
    assert identity is not None
    folder = _folder(request, identity)
    weights = folder / name
    if weights.is_file():
        return weights
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "fit.log"
    with log.open("w", encoding="utf-8") as output:
        done = subprocess.run(
            _command(request, train, folder), stdout=output, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode != 0 or not weights.is_file():
        raise InputError(
            f"The training for row {request.row}, seed {request.seed}, failed; its output is in {log}."
        )
    return weights


def _command(request: CellRequest, train: Mapping[str, Any], folder: Path) -> list[str]:
    configs = [word for path in train["config"] for word in ("--config", path)]
    options = {key: value for key, value in train.items() if key != "config"}
    options |= {
        "model.init_args.backbone": request.backbone,
        "seed_everything": request.seed,
        "trainer.logger": "true",
        "trainer.default_root_dir": folder,
    }
    return [
        sys.executable,
        "-m",
        "mmret",
        "fit",
        *configs,
        *(f"--{key}={value}" for key, value in options.items()),
    ]
