"""Memory of a training on processors: what glibc is asked to do with large blocks.

A step frees gigabytes (logits, gradients, activations) and takes them again. glibc hands blocks of
over 32 MB back to the kernel at each free, and the kernel clears every page of the next one,
which is much of a step's time where the arithmetic is fast.
"""

import contextlib
import ctypes
import functools

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


@functools.cache  # once is enough
def keep_freed_memory() -> None:
    """Have this process keep what it frees for its next allocation, to its end.

    For a process that trains, whose next step takes what this one gave back. Elsewhere than on
    glibc nothing changes.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # no mallopt: another libc
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)  # never
