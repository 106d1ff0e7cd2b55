"""HTML files as screenshots of their first page, by a headless Chromium that cannot reach a network."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from PIL import Image

from mmret.data.images import read_image
from mmret.errors import InputError
from mmret.pages.documents import require_file
from mmret.pages.failures import PageError
from mmret.pages.settings import RenderSettings

VIEWPORT = (980, 980)
"""Width and height of the window in pixels, as in Wiki-SS (DSE, section 3.1)."""

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome-headless-shell")
_SECONDS = 60
_OPTIONS = (
    "--headless",
    "--no-sandbox",  # a container's root has no other way; the files are the user's own, and no network is there
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--proxy-server=127.0.0.1:9",  # addresses in numbers need no resolver: they go to a port that discards
    "--virtual-time-budget=5000",  # scripts see five seconds go by at once
)


@cache
def find_program() -> str | None:
    """The path of a Chromium or Chrome; None where there is none."""
    return next((path for name in _PROGRAMS if (path := shutil.which(name))), None)


@cache
def version() -> str:
    """What the program calls itself; "no Chromium" where there is none."""
    program = find_program()
    if program is None:
        return "no Chromium"
    told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=_SECONDS).stdout
    return " ".join(told.split()[:2])


class Screenshots:
    """The renderer of HTML files: one page each."""

    chunk = 1

    def __init__(self, settings: RenderSettings) -> None:
        self.settings = settings

    def fingerprint(self) -> str:
        """The program, the window, and how the picture is sized."""
        return f"{version()} {VIEWPORT[0]}x{VIEWPORT[1]}, {self.settings}"

    def count(self, path: Path, password: str | None = None) -> int:
        """One page; raises `PageError`: missing, unreadable, empty, no program."""
        require_file(path)
        if find_program() is None:
            raise PageError("no program", "HTML is drawn by Chromium, which is not installed")
        return 1

    def pages(
        self, path: Path, numbers: Sequence[int], password: str | None = None
    ) -> Iterator[tuple[int, Image.Image | PageError]]:
        """The screenshot, RGB, or what prevented it."""
        for number in numbers:
            try:
                yield number, self.settings.fit(_screenshot(path))
            except PageError as error:
                yield number, error


def _screenshot(path: Path) -> Image.Image:
    program = find_program()
    if program is None:
        raise PageError("no program", "HTML is drawn by Chromium, which is not installed")
    with tempfile.TemporaryDirectory(prefix="mmret-html-") as folder:
        picture = Path(folder, "page.png")
        command = [
            program, *_OPTIONS, f"--user-data-dir={folder}/profile", f"--screenshot={picture}",
            f"--window-size={VIEWPORT[0]},{VIEWPORT[1]}", path.resolve().as_uri(),
        ]  # fmt: skip
        try:
            told = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            raise PageError("timeout", f"Chromium took more than {_SECONDS} s for {path}") from None
        try:
            return read_image(picture)
        except InputError as error:
            last = (told.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise PageError("damaged", f"Chromium made no picture of {path}: {last}") from error
