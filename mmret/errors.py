"""What is said of bad input: an error where it cannot be used, a warning where it was, but not as it came."""

import difflib
import errno
from collections.abc import Iterable
from typing import Final

#: `errno` of an OSError that says a disk or a quota is full, or that a file may not be written.
UNWRITABLE: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
)


class InputError(ValueError):
    """Bad input: a file, a name, an array or a setting that cannot be used as it is.

    The message is one sentence that says what is wrong, where, and what to do. The command line prints it
    without a traceback and exits with status 2.
    """


class InputWarning(UserWarning):
    """Input that was used, but not as it came: texts that were cut, images that were left out.

    The message is a sentence with a count; the command line prints it as one line, like an error.
    """


def missing_extra(what: str, package: str, extra: str) -> InputError:
    """The error of something (a noun, with its article) that needs a package of an extra of `setup.cfg`."""
    return InputError(
        f"{what} needs {package}: run `pip install -e '.[{extra}]'` in the clone of this project."
    )


_FEW: Final = 10  # names that a message can list


def nearest(name: str, candidates: Iterable[str], count: int = 5) -> str:
    """What to say behind a name that does not exist: ": the nearest names are …", or ": there are …" if none is near.

    Names that contain the wrong one come first, then those that are spelt most like it. Where none is near all are
    named, unless they are many: then "".
    """
    wanted, known = name.lower(), list(candidates)
    holding = [candidate for candidate in known if wanted in candidate]
    similar = difflib.get_close_matches(wanted, known, n=count, cutoff=0.5)
    found = list(dict.fromkeys([*holding, *similar]))[:count]
    if found:
        return f": the nearest names are {', '.join(found)}"
    return f": there are {', '.join(known)}" if len(known) <= _FEW else ""
