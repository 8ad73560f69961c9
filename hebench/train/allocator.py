"""Memory of a training on processors: what glibc is asked to do with large blocks.

A step frees gigabytes (logits, gradients, activations) and takes them again. glibc hands blocks of
over 32 MB back to the kernel at each free, and the kernel clears every page of the next one,
which is much of a step's time where the arithmetic is fast.

    memory = FreedMemory(kept=True)
    with memory:
        for batch in batches:
            ...
            memory.step_over()

What comes in the middle of it with blocks of sizes of its own, an evaluation, does without:

    with as_usual():
        ...
"""

import contextlib
import ctypes
import functools
import time
from collections.abc import Iterator
from typing import Any, ClassVar, Self

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # malloc.h
_USUAL = {  # where glibc's own thresholds arrive once a process has freed large blocks
    _M_MMAP_MAX: 65536,
    _M_MMAP_THRESHOLD: 32 * 2**20,
    _M_TRIM_THRESHOLD: 64 * 2**20,
}
_KEPT = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1}  # nothing apart from the heap, which never shrinks
_KEPT_SECONDS = 60.0  # gaps that no block fits any more are gone after that


class FreedMemory:
    """Within it this process keeps what it frees for its next allocation.

    For a loop whose steps take what the one before gave back. Blocks of other sizes leave gaps
    between them, which would grow for ever: so all that lies free is given back once a minute
    and at the end. Elsewhere than on glibc nothing changes. One at a time.
    """

    entered: ClassVar["FreedMemory | None"] = None  # the settings are the process's

    def __init__(self, *, kept: bool) -> None:
        """kept: whether to do so at all."""
        self._kept = kept
        self._since = 0.0

    def __enter__(self) -> Self:
        """Begin to keep."""
        self._since = time.perf_counter()
        self._set(_KEPT)
        FreedMemory.entered = self
        return self

    def __exit__(self, *_: object) -> None:
        """Give back what is free; no block is put on the heap any more that it has no room for."""
        FreedMemory.entered = None
        self._set(_USUAL)
        self._give_back()

    def step_over(self) -> None:
        """Give back what is free if that was not done for a minute."""
        if time.perf_counter() - self._since >= _KEPT_SECONDS:
            self._give_back()
            self._since = time.perf_counter()

    def _set(self, options: dict[int, int]) -> None:
        if self._kept and (libc := _glibc()):
            for name, value in options.items():
                libc.mallopt(name, value)

    def _give_back(self) -> None:
        if self._kept and (libc := _glibc()):
            libc.malloc_trim(0)


@contextlib.contextmanager
def as_usual() -> Iterator[None]:
    """Let memory be freed as ever while the body runs, whether a loop around it keeps it or not."""
    with contextlib.ExitStack() as stack:
        if memory := FreedMemory.entered:
            memory.__exit__()
            stack.callback(memory.__enter__)
        yield


@functools.cache
def _glibc() -> Any:
    """Return the C library if it takes these settings, else None."""
    with contextlib.suppress(OSError, TypeError):
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim"):
            libc.malloc_trim.argtypes = [ctypes.c_size_t]
            return libc
    return None
