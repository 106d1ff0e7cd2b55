"""What is said of a file or a page that cannot be used: its name, the cause, and one sentence."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from mmret.data.records import write_json_lines
from mmret.errors import InputError

Cause = Literal[
    "missing",  # a name that was listed, and no file (or a link that leads nowhere)
    "unreadable",  # the system refuses it (permissions, a folder, a device), or its name is not UTF-8
    "empty",
    "not a PDF",
    "not an image",
    "truncated",
    "damaged",
    "encrypted",  # needs a password, and none was given
    "wrong password",
    "null page",  # the page tree counts a page that is not there
    "too large",  # more pixels than the limit
    "page count",  # another number of pages than the document says
    "timeout",
    "crash",  # the renderer took its process with it, or was killed for memory
    "no program",  # what reads this kind of file is not installed
]

_NAMED = 20


class PageError(InputError):
    """A document or a page that cannot be used, with the kind of cause."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause = cause


@dataclass(frozen=True)
class Failure:
    """One file (`page` None) or one page that failed."""

    file: str
    page: int | None
    cause: Cause
    message: str

    @classmethod
    def of(cls, file: str, page: int | None, error: PageError) -> "Failure":
        """The failure that an error was, as one line; of names that are not UTF-8 the strange bytes are escaped."""
        return cls(_printable(file), page, error.cause, _printable(" ".join(str(error).split())))

    def __str__(self) -> str:
        place = self.file if self.page is None else f"{self.file}, page {self.page} (from 0)"
        return f"{place}: {self.cause} ({self.message})"


def _printable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def write_failures(path: Path, failures: Sequence[Failure]) -> None:
    """Write one JSON object a failure, whole or not at all: an empty file says that nothing failed."""
    write_json_lines(path, (asdict(failure) for failure in failures))


def summary(failures: Sequence[Failure]) -> Iterator[str]:
    """Lines for people: the count of every cause, and the first twenty failures by name."""
    if not failures:
        return
    counts = Counter(failure.cause for failure in failures)
    causes = ", ".join(f"{count:,} {cause}" for cause, count in counts.most_common())
    yield f"{len(failures):,} files or pages failed: {causes}"
    yield from (f"  {failure}" for failure in failures[:_NAMED])
    if len(failures) > _NAMED:
        yield f"  … and {len(failures) - _NAMED:,} more"
