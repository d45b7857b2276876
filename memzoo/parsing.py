"""Parser that makes flags from dataclasses and reports every error in one line."""

import contextlib
import io
import os
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import tyro

from memzoo.errors import InputError, MemzooError

Options = TypeVar("Options")

_REGISTRY = tyro.constructors.ConstructorRegistry()


@_REGISTRY.primitive_rule
def _path(info: Any) -> Any:
    """Read paths, and refuse a blank one, which would mean the current folder."""
    if info.type is not Path:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: _path_from(*words),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda value: [str(value)],
    )


def _path_from(word: str) -> Path:
    if not word.strip():
        raise InputError("is empty; give a path, or drop the option")
    return Path(word)


class HelpShown(SystemExit):
    """Exit after `--help` has printed the help."""


def parse(
    kind: type[Options],
    arguments: list[str],
    *,
    command: str,
    default: Options | None = None,
) -> Options:
    """Return the options that the arguments describe.

    Args:
        command: the words between `memzoo` and the options.
        default: options that the arguments change; this fixes their types.

    Raises:
        MemzooError: an unknown flag, a wrong type, or a value that a config refuses.
        HelpShown: the arguments ask for help, which is printed.
    """
    settings: dict[str, Any] = {
        "args": arguments,
        "prog": f"memzoo {command}",
        "registry": _REGISTRY,
    }
    if default is not None:
        settings |= {"default": default, "config": (tyro.conf.AvoidSubcommands,)}
    if wants_help(arguments):
        try:
            return tyro.cli(kind, **settings)
        except SystemExit as stop:
            raise HelpShown(stop.code) from None
    said = io.StringIO()
    try:
        with (
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(said),
            _wide_terminal(),
        ):
            return tyro.cli(kind, **settings)
    except SystemExit as stop:
        if not stop.code:
            raise HelpShown(stop.code) from None
        _raise_faults(stop)
        line = one_line(said.getvalue(), arguments, command)
        if "does not belong to an option" in line:
            line = _switch_given_a_value(kind, settings) or line
        raise MemzooError(line) from None


def _raise_faults(stop: SystemExit) -> None:
    """Raise a config's error again, unless it is a `MemzooError`.

    tyro reports every ValueError from a `__post_init__` as a user's mistake.
    """
    error = stop.__context__
    while error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        in_checks = any(frame.name == "__post_init__" for frame in frames)
        if in_checks and not isinstance(error, MemzooError):
            raise error from None
        error = error.__context__


def wants_help(arguments: list[str]) -> bool:
    """Return whether the arguments ask for help."""
    return bool({"-h", "--help"} & set(arguments))


def one_line(box: str, arguments: list[str], command: str) -> str:
    """Return the message of tyro's box in one line with the remedy.

    Args:
        box: a title and sections, separated by rules.
        arguments: the parsed arguments.
    """
    sections: list[list[str]] = [[]]
    for line in box.splitlines():
        text = line.strip(" │|╭╮╰╯+\t")
        if text and not set(text) <= {"-", "─"}:
            sections[-1].append(text)
        elif text:
            sections.append([])
    _, message, *rest = [*sections, [], []]
    said = " ".join(message)
    help_line = f"`memzoo {command} --help` lists the options"
    if found := re.match(r"Unrecognized options:\s*(.*)", said):
        return _unknown(found.group(1).split(", "), rest, help_line)
    choice = r"invalid choice (.*?) for argument '(.*?)'\. .*\((.*)\)"
    if found := re.match(choice, said):
        value, flag, choices = found.groups()
        choices = choices.replace("'", "").rstrip(",")
        return f"{flag} is {value}; choose one of {choices}"
    if found := re.match(r"Missing value for argument '(.*?)'", said):
        return f"{found.group(1)} needs a value; {help_line}"
    # Our value readers raise "is ...; remedy", to be read after the option's name.
    if found := re.match(r"Error parsing (--\S+):(?:.*:)? (is [^;]+; .+)", said):
        return " ".join(found.groups())
    if found := re.match(r"Error parsing (--\S+): ", said):
        return _wrong_value(found.group(1), arguments, rest, help_line)
    if found := re.match(r"Error parsing (\S+): (.*)", said):
        where, reason = found.groups()
        where = where.partition("experiment.")[2]
        return f"{where}: {reason}" if where else reason
    return f"{said}; {help_line}"


def _unknown(words: list[str], sections: list[list[str]], help_line: str) -> str:
    flags = [word for word in words if word.startswith("-")]
    if not flags:
        return f"{words[0]!r} does not belong to an option; {help_line}"
    flag = flags[0].partition("=")[0]
    for section in sections:
        if section and section[0].startswith("Perhaps you meant") and section[1:]:
            meant = section[1].split()[0].rstrip(",")
            return f"unknown option {flag}; did you mean {meant}?"
    return f"unknown option {flag}; {help_line}"


def _switch_given_a_value(kind: type[Any], settings: dict[str, Any]) -> str | None:
    """Return the correction of `--flag True` if the flag is a switch, else None."""
    words = " ".join(settings["args"])
    given = re.findall(r"(?:^| )(--[^ =]+)[ =](?:true|false)(?= |$)", words, re.I)
    if not given:
        return None
    said = io.StringIO()
    for_help: dict[str, Any] = settings | {"args": ["--help"]}
    with (
        contextlib.redirect_stdout(said),
        contextlib.suppress(SystemExit),
        _wide_terminal(),
    ):
        tyro.cli(kind, **for_help)
    # Only switches are listed with their negation: `--a.json, --a.no-json`.
    switches = dict(re.findall(r"(--\S+), (--(?:\S+\.)?no-\S+)", said.getvalue()))
    for flag in (word.replace("_", "-") for word in given):
        for on, off in switches.items():
            if flag in (on, off):
                return f"{flag} is a switch; write {on} or {off}"
    return None


def _wrong_value(
    flag: str, arguments: list[str], sections: list[list[str]], help_line: str
) -> str:
    given: list[str] = []
    # tyro treats underscores as dashes.
    words = [re.sub(r"^--[^=]*", _dashes, word) for word in arguments]
    for index, word in enumerate(words):
        if word.startswith(f"{flag}="):
            given = [word.partition("=")[2]]
        elif word == flag:
            ends = (i for i, w in enumerate(words) if i > index and w.startswith("--"))
            given = words[index + 1 : next(ends, None)]
    for section in sections:
        if section and section[0].startswith("Argument helptext") and section[1:]:
            kind = section[1].partition(" ")[2]
            return f"{flag} is {' '.join(given)!r}; it must be {_in_words(kind)}"
    return f"{flag} is {' '.join(given)!r}, which cannot be read; {help_line}"


def _dashes(flag: re.Match[str]) -> str:
    return flag.group().replace("_", "-")


def _in_words(metavar: str) -> str:
    """Return `{None}|INT` as `None or INT`, `{[INT [INT ...]]}` as `several INT`."""
    if metavar == "INT":
        return "a whole number, such as 1000"
    several = re.sub(r"\{?\[?(\w+) \[\1 \.\.\.\]\]?\}?", r"several \1", metavar)
    return several.replace("{None}", "None").replace("|", " or ")


@contextlib.contextmanager
def _wide_terminal() -> Iterator[None]:
    """Keep tyro from wrapping the text in its boxes."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "4000"
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
