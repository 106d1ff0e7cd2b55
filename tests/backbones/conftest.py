"""Fixtures: tiny models in folders, made once."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.backbones.tiny_models import write_model


@pytest.fixture(autouse=True)
def seed() -> None:
    """The same random pixels and words in every run and in any order of the tests."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a kind of `tiny_models.CONFIGS`."""
    root = tmp_path_factory.mktemp("models")

    def folder(kind: str) -> Path:
        return root / kind if (root / kind).exists() else write_model(kind, root / kind)

    return folder
