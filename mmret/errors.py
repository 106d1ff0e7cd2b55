"""The one exception for bad input."""


class InputError(ValueError):
    """Bad input: a file, a name, an array or a setting that cannot be used as it is.

    The message is one sentence that says what is wrong, where, and what to do. The command line prints it
    without a traceback and exits with status 2.
    """
