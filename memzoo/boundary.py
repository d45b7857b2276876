"""Conversion of errors to one line and an exit code; no other module does this.

An error that the user can fix is a `MemzooError`, or an error of the system. Every
other error is a bug: it keeps its traceback, and a last line asks for a report.
"""

import dataclasses
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memzoo.errors import MemzooError

from .configs.reading import remedy, tells_what_is_there
from .parsing import HelpShown

FAULT = 1
"""Exit code after a traceback, the same as Python's."""


@dataclasses.dataclass
class Ended:
    """Exit code of a command."""

    code: int = FAULT


@contextmanager
def closing_line(command: str) -> Iterator[Ended]:
    """Print the error that ends a command, and set its exit code.

    Ctrl-C passes through.
    """
    ended = Ended()
    try:
        yield ended
    except HelpShown:
        ended.code = 0
    except SystemExit as stop:
        # memzoo never calls sys.exit in a command. A user's layer or task may, and the
        # unfinished command would look finished.
        *_, frame = traceback.extract_tb(stop.__traceback__)
        ended.code = stop.code if isinstance(stop.code, int) and stop.code else 1
        _say(
            f"{command} was ended by sys.exit({stop.code!r}) in {frame.filename}, "
            f"line {frame.lineno}; raise an error there, or remove the call"
        )
    except BrokenPipeError:
        # The reader of the output has closed it (`memzoo list | head`). Without this
        # Python would print an error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        ended.code = 0
    except Exception as error:
        refused = _refusal(error)
        if refused is not None:
            ended.code, line = refused
            _say(line)
            return
        traceback.print_exc()
        _say(
            "stopped by the unexpected error above; if none of its lines is in a file "
            "of yours, please report them with the command"
        )


def _say(line: str) -> None:
    print(f"memzoo: {line}", file=sys.stderr)


def _refusal(error: Exception) -> tuple[int, str] | None:
    """Return exit code and line of an error that the user can fix, else None."""
    if isinstance(error, MemzooError):
        return error.exit_code, str(error)
    if isinstance(error, OSError) and error.filename is not None:
        wrong = tells_what_is_there(error.errno)
        what_to_do = "give another path" if wrong else remedy(error.errno)
        return 2 if wrong else 1, f"{error.filename}: {error.strerror}; {what_to_do}"
    reason = " ".join(str(error).split())[:120]
    if _is_without_devices(error):
        platforms = os.environ.get("JAX_PLATFORMS", "")
        return 2, (
            f"JAX has no devices ({reason or 'it gives no reason'}); JAX_PLATFORMS is "
            f"{platforms!r}: unset it, or install what it names"
        )
    if _is_out_of_memory(error):
        return 2, (
            f"out of memory ({reason or 'of this machine'}); take a smaller batch_size "
            "or width, or --model.remat full; `memzoo describe` estimates it"
        )
    return None


def _is_out_of_memory(error: Exception) -> bool:
    from jax.errors import JaxRuntimeError

    words = ("RESOURCE_EXHAUSTED", "Out of memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, JaxRuntimeError) and any(word in str(error) for word in words)
    )


def _is_without_devices(error: Exception) -> bool:
    """Return whether JAX raised the error while it looked for its backends."""
    frames = traceback.extract_tb(error.__traceback__)
    is_last = bool(frames) and Path(frames[-1].filename).name == "xla_bridge.py"
    return is_last and isinstance(error, RuntimeError | AssertionError)
