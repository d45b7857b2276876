"""Errors that end a command with one line and a documented exit code."""

import signal


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
