"""Freed memory is kept for the next step instead of being handed back."""

import ctypes
import sys

# Numbers of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8


def keep_freed_memory() -> bool:
    """Large buffers are taken from memory that the process already has.

    XLA on a CPU asks for its buffers anew at every call. By default glibc maps large
    ones freshly from the system and gives them back, so that every page is faulted in
    again: at 8192 tokens that was a fifth of the time of a recurrent layer. One arena
    serves all threads, since that of a thread holds 64 MiB at most and maps what is
    larger: the gradient of two blocks of attention at 4096 tokens needs 78 and took 1.5
    times longer. Environment variables (`MALLOC_MMAP_THRESHOLD_`) say the same before
    the program starts.

    Returns:
        Whether the C library took it; others than glibc are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    settings = {
        _MMAP_THRESHOLD: 2**30,
        _TRIM_THRESHOLD: 2**31 - 1,
        _TOP_PAD: 2**26,
        _ARENA_MAX: 1,
    }
    return all(mallopt(name, value) == 1 for name, value in settings.items())
