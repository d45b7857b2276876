"""Errors that end a command with one line and a documented exit code."""

import signal
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType

_LONGEST = 80
_NO_NAMES: Mapping[str, str] = MappingProxyType({})


def with_article(name: str) -> str:
    """Return a name with its article: "an int", "a list"."""
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def shown(value: object) -> str:
    """Return a value in one line, shortened, for an error."""
    if isinstance(value, type):
        return f"the class {value.__name__} (without parentheses after it)"
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def name_to_use(
    name: str,
    known: Iterable[str],
    others: Mapping[str, str] = _NO_NAMES,
    *,
    rest: str = "choose one of",
) -> str:
    """Return the known name to use in place of an unknown one, for an error.

    Args:
        name: the unknown name.
        known: the known names.
        others: names in other libraries, and the known names for them.
        rest: words before the list of the known names, if no name is close.
    """
    known = list(known)
    if others.get(name) in known:
        return f"it is called {others[name]} here"
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"{rest} {', '.join(known)}"


class MemzooError(Exception):
    """Error that the user can fix; the message names the problem and the remedy."""

    exit_code = 2


class InputError(MemzooError, ValueError):
    """Value or option that a config, a layer, data or a command refuses."""


class NonFiniteError(MemzooError):
    """Loss, gradient, update or evaluation that is not finite.

    Attributes:
        asked: the signal to stop that arrived before the error was noticed, or None.
    """

    exit_code = 3
    asked: signal.Signals | None = None


class CheckpointError(MemzooError):
    """Missing or damaged checkpoint, or data that differs from the checkpoint's."""

    exit_code = 4
