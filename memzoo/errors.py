"""Errors that end a command with one line and a documented exit code."""

import signal


class MemzooError(Exception):
    """Something the user can mend; the message names it and the remedy."""

    exit_code = 2


class InputError(MemzooError, ValueError):
    """A value or an option that a config, a layer, data or a command refuses."""


class NonFiniteError(MemzooError):
    """A loss, a gradient, an update or an evaluation is not finite.

    Attributes:
        asked: the signal to stop that came before that was seen.
    """

    exit_code = 3
    asked: signal.Signals | None = None


class CheckpointError(MemzooError):
    """No valid checkpoint, or data that is not what the checkpoint was made with."""

    exit_code = 4
