"""Filters for Orbax's messages about errors that memzoo raises in one line.

When a write fails, Orbax logs the traceback from several threads. Unfinished writes end
after its event loop is closed, and Python reports each of them. When a read fails,
Orbax leaves the other reads running. asyncio and Python then report the error of each,
with all of TensorStore's details, whenever it is collected.
"""

import logging
import sys
import warnings
from collections.abc import Callable
from typing import Any

_LATE = "Event loop is closed"
# Left by an event loop that could not be created, for lack of open files.
_HALF_MADE = "_ssock"
# Part of the path of Orbax's source files.
_ORBAX = "orbax"


def quiet_orbax() -> None:
    """Silence Orbax except for the errors that it raises."""
    logging.getLogger("absl").addFilter(_not_orbax)
    logging.getLogger("asyncio").addFilter(_not_a_task_of_orbax)
    if not getattr(sys.unraisablehook, "drops_orbax", False):
        sys.unraisablehook = _dropping_orbax(sys.unraisablehook)


def quiet_unfinished() -> None:
    """Stop Python from reporting coroutines that were never awaited.

    A failed save leaves many of them, until the process ends.
    """
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)


def _not_orbax(record: logging.LogRecord) -> bool:
    return _ORBAX not in record.pathname


def _not_a_task_of_orbax(record: logging.LogRecord) -> bool:
    # The record shows the task, which includes where its coroutine is defined.
    lines = record.getMessage().splitlines()
    return not any("coro=" in line and _ORBAX in line for line in lines)


def _dropping_orbax(before: Callable[[Any], Any]) -> Callable[[Any], None]:
    def hook(unraisable: Any) -> None:
        error = unraisable.exc_value
        late = isinstance(error, RuntimeError) and str(error) == _LATE
        late |= isinstance(error, AttributeError) and error.name == _HALF_MADE
        code = getattr(unraisable.object, "cr_code", None)
        if not late and (code is None or _ORBAX not in code.co_filename):
            before(unraisable)

    hook.drops_orbax = True  # pyright: ignore[reportFunctionMemberAccess]
    return hook
