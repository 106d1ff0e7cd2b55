import subprocess
from pathlib import Path

import numpy as np

from mmret.tables.provenance import revision, versions


def test_versions_name_what_is_installed() -> None:
    found = versions()
    assert found["numpy"] == np.__version__
    assert found["python"].startswith("3.")


def test_a_revision_says_when_the_tree_was_changed(tmp_path: Path) -> None:
    assert revision(tmp_path) == "unknown"

    def git(*words: str) -> None:
        author = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", "-C", str(tmp_path), *author, *words], check=True, capture_output=True)

    git("init")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-m", "first")
    clean = revision(tmp_path)
    assert len(clean) == 40
    (tmp_path / "file").write_text("two")
    assert revision(tmp_path) == f"{clean}-dirty"
