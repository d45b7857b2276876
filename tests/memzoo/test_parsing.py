"""Every error in the flags is one line."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from memzoo.errors import InputError, MemzooError
from memzoo.parsing import one_line, parse, wants_help


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int = 4
    rates: tuple[float, ...] = (0.5,)
    either: int | tuple[int, ...] = 3
    name_it: str = "it"
    even_it: bool = True

    def __post_init__(self):
        if self.size < 1:
            raise InputError(f"size is {self.size}; give 1 or more")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the options are for."""

    inner: Inner = field(default_factory=Inner)
    steps: int = 3
    """How often."""
    limit: int | None = None
    form: Literal["wide", "narrow"] = "wide"
    json: bool = False
    folder: Path = Path("runs")
    page: Path | None = None

    def __post_init__(self):
        if self.steps == 13:
            raise InputError("steps is 13; take another number")


def read(*arguments, default=None):
    return parse(Options, list(arguments), command="try CONFIG", default=default)


def test_flags_become_options():
    made = read("--steps", "5", "--limit", "None", "--inner.size=2", "--json")
    assert made == Options(steps=5, inner=Inner(size=2), json=True)
    assert read("--folder", "a", "--page", "None") == Options(folder=Path("a"))
    assert read("--page", "b").page == Path("b")
    assert read("--inner.either", "4", "5").inner.either == (4, 5)
    assert read("--no-json", default=Options(json=True, steps=9)).steps == 9


HELP = "; `memzoo try CONFIG --help` lists the options"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--stepz", "3"], "unknown option --stepz; did you mean --steps?"),
        (["--jsn"], "unknown option --jsn; did you mean --json?"),
        (["--stepz=3"], "unknown option --stepz" + HELP),
        (["--zzzzzz"], "unknown option --zzzzzz" + HELP),
        (["more", "words"], "'more' does not belong to an option" + HELP),
        (["--json", "True"], "--json is a switch; write --json or --no-json"),
        (["--json=false"], "--json is a switch; write --json or --no-json"),
        (["--no-json", "TRUE"], "--no-json is a switch; write --json or --no-json"),
        (
            ["--inner.name_it", "true", "--inner.even_it", "false"],
            "--inner.even-it is a switch; write --inner.even-it or --inner.no-even-it",
        ),
        (["--json", "3"], "'3' does not belong to an option" + HELP),
        (["--steps", "3", "true"], "'true' does not belong to an option" + HELP),
        (
            ["--steps", "abc"],
            "--steps is 'abc'; it must be a whole number, such as 1000",
        ),
        (["--steps=abc"], "--steps is 'abc'; it must be a whole number"),
        (["--steps", "1.5"], "--steps is '1.5'; it must be a whole number"),
        (["--limit", "x"], "--limit is 'x'; it must be None or INT"),
        (
            ["--inner.either", "x"],
            "--inner.either is 'x'; it must be INT or several INT",
        ),
        (
            ["--inner.rates", "1", "y", "--steps", "3"],
            "--inner.rates is '1 y'; it must",
        ),
        (["--steps"], "--steps needs a value" + HELP),
        (["--folder", ""], "--folder is empty; give a path, or "),
        (["--folder= "], "--folder is empty; give a path, or "),
        (["--page", ""], "--page is empty; give a path, or "),
        (["--form", "w"], "--form is 'w'; choose one of wide, narrow"),
        (["--inner.size", "0"], "size is 0; give 1 or more"),
        (["--steps", "13"], "steps is 13; take another number"),
    ],
)
@pytest.mark.parametrize("default", [None, Options()], ids=["bare", "preset"])
def test_what_is_wrong_is_one_line(arguments, line, default, capsys):
    with pytest.raises(MemzooError) as caught:
        read(*arguments, default=default)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(line)
    assert capsys.readouterr() == ("", "")


def test_underscores_are_dashes():
    @dataclass(frozen=True, kw_only=True)
    class Long:
        batch_size: int = 4

    assert parse(Long, ["--batch_size", "5"], command="x").batch_size == 5
    with pytest.raises(
        MemzooError, match=r"^--batch-size is 'y'; it must be a whole number, "
    ):
        parse(Long, ["--batch_size", "y"], command="x")


def test_long_values_are_not_broken_into_lines(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    long = "a_very_long_word_" * 10
    with pytest.raises(MemzooError, match=f"^--steps is '{long}'; it must be a whole"):
        read("--steps", long)
    assert os.environ["COLUMNS"] == "40"
    monkeypatch.delenv("COLUMNS")
    with pytest.raises(MemzooError):
        read("--steps", long)
    assert "COLUMNS" not in os.environ


def test_help_is_printed(capsys):
    with pytest.raises(SystemExit) as stop:
        read("--help", default=Options())
    assert not stop.value.code
    said = capsys.readouterr().out
    assert said.startswith("usage: memzoo try CONFIG [-h]")
    assert "What the options are for." in said and "How often. (default: 3)" in said
    assert wants_help(["-h"]) and wants_help(["x", "--help"]) and not wants_help([])


def test_the_place_of_a_refused_value_is_named():
    box = "Value error\n---\nError parsing experiment.task: length is 3; make it even\n"
    assert one_line(box, [], "try") == "task: length is 3; make it even"


def test_what_is_not_understood_is_passed_on():
    box = "+- Something -+\n| --- |\n| it went wrong |\n| ---- |\n| more |\n"
    assert one_line(box, [], "try CONFIG") == "it went wrong" + HELP
