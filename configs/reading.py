"""Reading of files: an unreadable file is not reported as missing or damaged."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memzoo.errors import MemzooError

# System errors that tell what a path is. All others (no permission, too many open
# files, a failing disk) say nothing about it.
_TELLING = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EINVAL,
    }
)

_REMEDIES = {
    "fix its permissions": (errno.EACCES, errno.EPERM),
    "raise the limit of open files (`ulimit -n`)": (errno.EMFILE, errno.ENFILE),
    "free some memory and start the command again": (errno.ENOMEM,),
}

# TensorStore's words: ... "/the/path": Permission denied [...os_error_code='13'...].
_CODE = re.compile(r"os_error_code='(\d+)'")
_NO_MEMORY = ("RESOURCE_EXHAUSTED: Out of memory", "std::bad_alloc")
_NO_THREAD = "can't start new thread"


class ReadError(MemzooError):
    """Error for a file or folder that exists and cannot be read."""

    exit_code = 1


@contextmanager
def readable(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn system errors, raised while reading `path`, into ReadError.

    Errors that tell what the path is stay unchanged: no such file, or a folder.
    """
    try:
        yield
    except (OSError, MemoryError) as error:
        failed = unreadable(error, path)
        if failed is None:
            raise
        raise failed from error


def check_readable(folder: Path) -> None:
    """Read all files of a folder once, to check that this is possible.

    Raises:
        ReadError: names the first file or folder that cannot be read.
    """
    folders = [folder]
    while folders:
        place = folders.pop()
        with readable(place), _passing_over():
            for path in sorted(place.iterdir()):
                with readable(path), _passing_over():
                    if path.is_dir() and not path.is_symlink():
                        folders.append(path)
                    elif path.is_file():
                        with path.open("rb") as file:
                            while file.read(1 << 20):
                                pass


def unreadable(error: BaseException, path: str | os.PathLike[str]) -> ReadError | None:
    """Return the ReadError to raise if `path` may be intact; `None` if it is not.

    Args:
        error: what reading it raised; its causes count too.
        path: named in the message if the error names no file.
    """
    cause: BaseException | None = error
    while cause is not None:
        number = error_number(cause)
        if number is not None and number not in _TELLING:
            words = os.strerror(number)
            said = re.search(f'"([^"]+)": {re.escape(words)}', str(cause))
            name = getattr(cause, "filename", None) or (said[1] if said else path)
            return ReadError(
                f"cannot read {os.fsdecode(name)}: {words}; {remedy(number)}"
            )
        cause = cause.__cause__ or cause.__context__
    return None


def error_number(error: BaseException) -> int | None:
    """Return the system's number of an error; for C++ libraries, parse it from the
    text."""
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    said = str(error)
    if found := _CODE.search(said):
        return int(found[1])
    if any(words in said for words in _NO_MEMORY):
        return errno.ENOMEM
    if isinstance(error, RuntimeError) and _NO_THREAD in said:
        return errno.EAGAIN
    return None


def tells_what_is_there(number: int | None) -> bool:
    """Return whether an error of this number means a missing path, or another kind of
    path."""
    return number in _TELLING


def remedy(number: int | None) -> str:
    """Return the remedy for a read error of this number."""
    for text, numbers in _REMEDIES.items():
        if number in numbers:
            return text
    return "start the command again once it can be read"


@contextmanager
def _passing_over() -> Iterator[None]:
    """Ignore errors that tell what the path is; the caller does not look for them."""
    try:
        yield
    except OSError as error:
        if error.errno not in _TELLING:
            raise
