"""Lock that lets only one process train a run at a time."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from memzoo.errors import MemzooError

from .writing import explained

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".lock"

# Errors of file systems without locks; a run there goes without one.
_UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold the lock of this directory; no other process can hold it at the same time.

    The system releases the lock when the process ends, for whatever reason. Process 0
    takes it for all processes. Without fcntl there is no lock.

    Raises:
        MemzooError: another process holds the lock.
        SaveError: the directory cannot be written.
    """
    number, holder = None, 0
    if jax.process_index() == 0 and fcntl is not None:
        with explained(run_dir):
            run_dir.mkdir(parents=True, exist_ok=True)
            number, holder = _take(run_dir / LOCK)
    if jax.process_count() > 1:
        holder = int(multihost_utils.broadcast_one_to_all(np.int32(holder)))
    if holder:
        who = f" (pid {holder})" if holder > 0 else ""
        raise MemzooError(
            f"run {run_dir} is being trained by another process{who}; wait for it or "
            "give another name"
        )
    try:
        yield
    finally:
        if number is not None:
            # Remove the file before releasing it: `_take` checks that it still exists.
            (run_dir / LOCK).unlink(missing_ok=True)
            os.close(number)


def _take(path: Path) -> tuple[int | None, int]:
    """Return the open lock file and 0, or `None` and the holder's pid (-1: unknown)."""
    assert fcntl is not None
    while True:
        number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.read(number, 20)
            os.close(number)
            return None, int(text) if text.isdigit() else -1
        except OSError as error:
            os.close(number)
            if error.errno not in _UNSUPPORTED:
                raise
            path.unlink(missing_ok=True)
            return None, 0
        try:
            ours = os.path.samestat(os.fstat(number), path.stat())
        except FileNotFoundError:
            ours = False
        if ours:
            os.ftruncate(number, 0)
            os.write(number, str(os.getpid()).encode())
            return number, 0
        os.close(number)
