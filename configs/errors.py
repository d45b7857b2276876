"""Errors that end a command with one line and a documented exit code."""


class MemzooError(Exception):
    """Something the user can mend; the message names it and the remedy."""

    exit_code = 2


class NonFiniteError(MemzooError):
    """The loss is no longer a number."""

    exit_code = 3


class CheckpointError(MemzooError):
    """No valid checkpoint, or data that is not what the checkpoint was made with."""

    exit_code = 4
