"""Flags from dataclasses; whatever is wrong with them becomes one line."""

import contextlib
import io
from typing import TypeVar

import tyro

from .configs.errors import MemzooError

Options = TypeVar("Options")


def parse(
    kind: type[Options],
    arguments: list[str],
    *,
    command: str,
    default: Options | None = None,
) -> Options:
    """The options that the arguments give.

    Raises:
        MemzooError: an unknown flag, a wrong type, or a value that a config refuses.
        SystemExit: help was asked for; it was printed.
    """
    said = io.StringIO()
    wants_help = bool({"-h", "--help"} & set(arguments))
    silent = contextlib.nullcontext() if wants_help else contextlib.ExitStack()
    try:
        with silent as stack:
            if isinstance(stack, contextlib.ExitStack):
                stack.enter_context(contextlib.redirect_stderr(said))
                stack.enter_context(contextlib.redirect_stdout(said))
            return tyro.cli(
                kind,
                args=arguments,
                default=default,
                prog=f"memzoo {command}",
                config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff)
                if default is not None
                else (),
            )
    except ValueError as error:
        raise MemzooError(f"memzoo {command}: {error}") from error
    except SystemExit as stop:
        if wants_help or not stop.code:
            raise
        raise MemzooError(f"memzoo {command}: {_one_line(said.getvalue())}") from None


def _one_line(box: str) -> str:
    """What tyro's box says first, and the flag it suggests."""
    lines = [line.strip(" │╭╮╰╯─-\n") for line in box.splitlines()]
    rules = [i for i, line in enumerate(box.splitlines()) if set(line.strip()) == {"-"}]
    first = rules[0] + 1 if rules else 0
    last = rules[1] if len(rules) > 1 else len(lines)
    message = " ".join(line for line in lines[first:last] if line)
    near = next(
        (
            line.split()[0]
            for i, line in enumerate(lines)
            if i > 0 and lines[i - 1].startswith("Perhaps you meant")
        ),
        None,
    )
    if near is None:
        return f"{message}; --help lists the options"
    return f"{message}; did you mean --{near}?"
