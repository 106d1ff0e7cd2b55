"""Keeps freed memory in the process during a training on the CPU."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Ask glibc to keep large freed blocks instead of giving each back to the kernel; elsewhere do nothing.

    A training step frees and takes the same large tensors again, and every return to the kernel costs page faults
    on the way back: on a virtual machine half of the step's time went into the kernel.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
