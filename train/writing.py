"""File writing: atomic, with errors in one line."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memzoo.errors import MemzooError

from ..configs.reading import error_number

_REMEDIES = {
    "make room there and start the command again: it continues from the last "
    "checkpoint": (errno.ENOSPC, errno.EFBIG, errno.EDQUOT),
    "fix its permissions or give another folder": (
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
    ),
    "move that file away or give another folder": (
        errno.EEXIST,
        errno.ENOTDIR,
        errno.EISDIR,
    ),
    "raise the limit of open files (`ulimit -n`)": (errno.EMFILE, errno.ENFILE),
}


class SaveError(MemzooError):
    """Error for a file that could not be written."""

    exit_code = 1


@contextmanager
def explained(
    path: Path, kinds: type[Exception] | tuple[type[Exception], ...] = OSError
) -> Iterator[None]:
    """Turn errors of these kinds, raised while writing to `path`, into SaveError."""
    try:
        yield
    except MemzooError:
        raise
    except kinds as error:
        raise SaveError(
            f"cannot write {path}: {reason(error)}; {_remedy(error)}"
        ) from error


def replace_text(path: Path, text: str) -> None:
    """Write `text` to the file, atomically.

    Raises:
        SaveError: it cannot be written; the old content remains.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with explained(path):
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def check_writable(directory: Path) -> None:
    """Create the directory if needed, and for a moment a folder with a file in it.

    Raises:
        SaveError: one of them cannot be created.
    """
    with explained(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".probe-", dir=directory) as folder:
            (Path(folder) / "file").write_bytes(bytes(4096))


def reason(error: BaseException) -> str:
    """Return the first cause of an error, in one short line."""
    error = _first(error)
    number = error_number(error)
    if number is not None:
        return os.strerror(number)
    lines = str(error).strip().splitlines()
    name = type(error).__name__
    return f"{name}: {lines[0][:160]}" if lines else name


def _remedy(error: BaseException) -> str:
    """Return the remedy for a write error."""
    error = _first(error)
    for remedy, numbers in _REMEDIES.items():
        # Libraries in C++ pass on the system's words, without the number.
        if error_number(error) in numbers or any(
            os.strerror(number) in str(error) for number in numbers
        ):
            return remedy
    return "give another folder"


def _first(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
