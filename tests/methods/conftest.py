"""A tiny backbone and a tiny world, made once."""

from pathlib import Path

import pytest

from tests.methods.toy_data import write_backbone, write_world


@pytest.fixture(scope="session")
def backbone_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("tiny") / "clip")


@pytest.fixture(scope="session")
def world_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("tiny") / "world")


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tests.backbones.tiny_pages import FAMILIES  # needs the extra `vlm`, which other methods do not

    return str(FAMILIES["qwen2_vl"](tmp_path_factory.mktemp("qwen") / "qwen2_vl"))


@pytest.fixture(scope="module")
def phi3(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tests.backbones.tiny_pages import FAMILIES

    folder = FAMILIES["phi3_v"](tmp_path_factory.mktemp("phi3") / "phi3_v")
    (folder / "mmret_encoder.json").write_text('{"resizing": "crops-1x1"}')
    return str(folder)
