"""The tiny backbone and world of the methods' tests."""

from tests.methods.conftest import backbone_folder, world_folder

__all__ = ["backbone_folder", "world_folder"]
