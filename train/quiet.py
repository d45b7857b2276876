"""Keeps Orbax from saying in many lines what is raised here in one.

When a write fails, Orbax logs the traceback from several threads, and writes that are
still under way end after its event loop has been closed, which Python reports for each.
"""

import logging
import sys
from collections.abc import Callable
from typing import Any

_LATE = "Event loop is closed"


def quiet_orbax() -> None:
    """From now on Orbax is heard only through the errors that it raises."""
    logging.getLogger("absl").addFilter(_not_orbax)
    if not getattr(sys.unraisablehook, "drops_late_writes", False):
        sys.unraisablehook = _dropping_late_writes(sys.unraisablehook)


def _not_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname


def _dropping_late_writes(before: Callable[[Any], Any]) -> Callable[[Any], None]:
    def hook(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not (isinstance(error, RuntimeError) and str(error) == _LATE):
            before(unraisable)

    hook.drops_late_writes = True  # pyright: ignore[reportFunctionMemberAccess]
    return hook
