"""A tiny backbone, made once."""

from pathlib import Path

import pytest

from tests.methods.toy_data import write_backbone


@pytest.fixture(scope="session")
def backbone_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("tiny") / "clip")
