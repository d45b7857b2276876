"""The errors that end a command: one line and an exit code, or a traceback."""

import os
from pathlib import Path

import pytest
from jax.errors import JaxRuntimeError

from memzoo import commands
from memzoo.__main__ import main
from memzoo.errors import InputError, MemzooError


@pytest.fixture
def call(capsys):
    """Call a command; return its exit code and output, tracebacks included."""

    def call(*words):
        code = main(list(words))
        output = capsys.readouterr()
        return code, output.out, output.err

    return call


def assert_one_line(result, code, line):
    found, out, err = result
    assert found == code and not out
    assert err.startswith(f"memzoo: {line}"), err
    assert err.count("\n") == 1


def raising(error):
    def command(arguments):
        raise error

    return command


def test_out_of_memory_is_one_line(call, monkeypatch):
    text = "RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.\nmore"
    remedy = "; take a smaller batch_size or width, or --model.remat full; `memzoo desc"
    for error, line in (
        (JaxRuntimeError(text), f"out of memory ({' '.join(text.split())}){remedy}"),
        (MemoryError(), f"out of memory (of this machine){remedy}"),
    ):
        monkeypatch.setitem(commands._COMMANDS, "list", raising(error))
        assert_one_line(call("list"), 2, line)


@pytest.mark.parametrize("kind", ["RuntimeError('no backend foo')", "AssertionError"])
def test_a_platform_that_is_not_there_is_one_line(call, monkeypatch, kind):
    monkeypatch.setenv("JAX_PLATFORMS", "foo")
    module = {}
    source = f"def command(arguments):\n    raise {kind}"
    exec(compile(source, "/somewhere/jax/_src/xla_bridge.py", "exec"), module)
    monkeypatch.setitem(commands._COMMANDS, "list", module["command"])
    reason = "no backend foo" if "foo" in kind else "it gives no reason"
    line = f"JAX has no devices ({reason}); JAX_PLATFORMS is 'foo': unset it, or"
    assert_one_line(call("list"), 2, line)


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (13, 1, "a/b: Permission denied; fix its permissions"),
        (
            24,
            1,
            "a/b: Too many open files; raise the limit of open files (`ulimit -n`)",
        ),
        (5, 1, "a/b: Input/output error; start the command again once it can be read"),
        (2, 2, "a/b: No such file or directory; give another path"),
    ],
)
def test_errors_of_the_system_are_one_line(call, monkeypatch, number, code, line):
    error = OSError(number, os.strerror(number), "a/b")
    monkeypatch.setitem(commands._COMMANDS, "list", raising(error))
    assert_one_line(call("list"), code, line)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("one line, as numpy's"),
        KeyError("x"),
        RuntimeError("Out of memory"),
        AssertionError("ours"),
        JaxRuntimeError("no"),
        OSError("no"),
    ],
)
def test_a_fault_keeps_its_traceback(call, monkeypatch, error):
    monkeypatch.setitem(commands._COMMANDS, "list", raising(error))
    code, out, err = call("list")
    assert code == 1 and not out
    assert err.startswith("Traceback") and "in command" in err
    assert err.splitlines()[-1].endswith("please report them with the command")


@pytest.mark.parametrize("error", [InputError("x; y"), MemzooError("x; y")])
def test_a_refusal_is_one_line(call, monkeypatch, error):
    monkeypatch.setitem(commands._COMMANDS, "list", raising(error))
    assert call("list") == (2, "", "memzoo: x; y\n")


CHECKED = """
import dataclasses
from memzoo.configs.presets import PRESETS
from memzoo.data.mqar import MqarConfig
from memzoo.errors import InputError

@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(MqarConfig):
    def __post_init__(self):
        if self.seed:
            raise {error}("seed is refused; leave it out")

config = dataclasses.replace(PRESETS["mqar-attention"](), task=Task())
"""


@pytest.mark.parametrize(("error", "code"), [("InputError", 2), ("ValueError", 1)])
def test_only_refusals_of_a_config_are_lines(call, tmp_path, error, code):
    path = tmp_path / f"raises_{error.lower()}.py"
    path.write_text(CHECKED.format(error=error))
    found, _, err = call("describe", str(path), "--task.seed", "1")
    assert found == code
    assert err.startswith("memzoo: " if code == 2 else "Traceback")
    assert "seed is refused; leave it out" in err


def test_the_source_raises_no_bare_value_error():
    """A bare ValueError would end a command with a traceback."""
    root = Path(__file__).parents[2]
    for folder in ("models", "train", "data", "configs", "evals", "memzoo"):
        for path in (root / folder).rglob("*.py"):
            assert "raise ValueError" not in path.read_text(), path
