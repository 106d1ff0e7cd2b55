"""What a result was made with: package versions, the interpreter, and the revision of the source tree."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Final

PACKAGES: Final = (
    "mmret",
    "torch",
    "torchvision",
    "lightning",
    "numpy",
    "scipy",
    "pillow",
    "safetensors",
    "open_clip_torch",
    "timm",
    "transformers",
    "bm25s",
    "sentence-transformers",
    "faiss-cpu",
    "faiss-gpu",
)
"""The packages whose version can change a number."""

SOURCE: Final = Path(__file__).resolve().parents[2]
"""The folder that holds the package: the source tree, when mmret is run from one."""


def versions() -> dict[str, str]:
    """Versions of the interpreter, the platform and every installed package of `PACKAGES`."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def revision(source: Path = SOURCE) -> str:
    """The commit of the source tree, ending in "-dirty" with uncommitted changes; or "unknown"."""
    # Only a repository at the tree's own root: an installed copy may lie inside somebody else's repository.
    if not (source / ".git").exists():
        return "unknown"
    command = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip() or "unknown"
