"""The exceptions for what cannot be done: bad input, and numbers that only a server can give."""

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
