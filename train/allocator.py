"""Allocator settings that keep freed memory for the next step."""

import ctypes
import sys

# Constants of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8


def keep_freed_memory() -> bool:
    """Make glibc take large buffers from memory that the process already has.

    XLA on a CPU allocates its buffers anew at every call. By default glibc maps large
    ones freshly from the system and returns them, so that every page is faulted in
    again: at 8192 tokens that was a fifth of the time of a recurrent layer. One arena
    serves all threads, because a thread's arena holds at most 64 MiB and maps anything
    larger: the gradient of two blocks of attention at 4096 tokens needs 78 MiB and took
    1.5 times longer. Environment variables (`MALLOC_MMAP_THRESHOLD_`) set the same
    before the program starts.

    Returns:
        Whether the C library accepted the settings; other libraries than glibc are left
            unchanged.
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
