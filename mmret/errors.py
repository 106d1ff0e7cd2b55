"""What is said of bad input: an error where it cannot be used, a warning where it was, but not as it came."""

import errno
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
