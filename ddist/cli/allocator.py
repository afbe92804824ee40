"""glibc's malloc, told to keep freed memory instead of handing it back to the system each time."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_freed_memory() -> bool:
    """Keep freed blocks of up to 1 GiB for reuse; return True where that works (Linux with glibc).

    A training step on a CPU frees and asks for the same tensors over and over. By default each of
    128 KiB and more is unmapped and mapped again, and every page of it faulted in and zeroed:
    LeNet's step on 1024 MNIST images took 1.4 times as long (docs/log.md).
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_THRESHOLD, 2**30) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
