"""`memzoo`, in separate processes and in this one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import memzoo
from memzoo.__main__ import COMMANDS, main, usage

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
TINY = {
    "--steps": 5,
    "--batch-size": 2,
    "--evaluation-examples": 4,
    "--task.length": 16,
    "--task.vocab-size": 32,
    "--task.num-pairs": 2,
    "--model.vocab-size": 32,
    "--model.width": 8,
}


def run(*words, cwd, **options):
    return subprocess.run(
        [sys.executable, "-m", "memzoo", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
        **options,
    )


def test_usage(capsys):
    assert main(["--help"]) == main(["help"]) == 0
    assert capsys.readouterr().out == 2 * f"{usage()}\n"
    assert all(name in usage() for name in COMMANDS)
    assert max(map(len, usage().splitlines())) <= 88
    assert main([]) == 2
    assert capsys.readouterr() == ("", f"{usage()}\n")


@pytest.mark.parametrize("variable", ["JAX_ENABLE_X64", "JAX_NUM_CPU_DEVICES"])
def test_a_variable_that_jax_cannot_read_is_one_line(tmp_path, variable):
    ended = run("list", cwd=tmp_path, env=os.environ | {variable: "maybe"})
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith("memzoo: ") and "maybe" in ended.stderr
    assert ended.stderr.endswith("; unset or correct that variable\n")
    assert ended.stderr.count("\n") == 1


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{memzoo.__version__}\n"


@pytest.mark.parametrize(
    ("word", "remedy"),
    [("trian", "did you mean train?"), ("zzz", "`memzoo --help` lists them")],
)
def test_unknown_commands(word, remedy, capsys):
    assert main([word]) == 2
    assert capsys.readouterr() == ("", f"memzoo: unknown command {word!r}; {remedy}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "88")
    assert main([name, "--help"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"usage: memzoo {name}") and said.err == ""
    first = said.out.splitlines()[0]
    what = {"train": "CONFIG", "describe": "CONFIG", "check": "FILE"}
    what |= {"eval": "RUN", "generate": "RUN"}
    assert what.get(name, "") in first


def test_help_of_a_preset_shows_its_own_layer(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["train", "mqar-sliding-window-attention", "--help"]) == 0
    said = capsys.readouterr().out
    assert "--model.pattern.0.layers.0.window INT" in said
    assert "--no-progress" in said and "--distributed" in said


def test_the_experiment_of_the_documentation(tmp_path):
    """A user's layer is trained, stored by its name, and found again."""
    sizes = [word for pair in TINY.items() for word in pair]
    done = run("train", EXAMPLES / "my_experiment.py", *sizes, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("runs/my-experiment: done at step 5; ")
    last = done.stdout.splitlines()[-1]
    assert last == "more results: memzoo eval runs/my-experiment --trust"
    record = (tmp_path / "runs/my-experiment/config.json").read_text()
    assert '"type": "my_layer:MyLayerConfig"' in record
    # `--trust` runs its code.
    lost = run("eval", "runs/my-experiment", cwd=tmp_path)
    assert (lost.returncode, lost.stdout) == (4, "")
    assert lost.stderr.count("\n") == 1
    assert "my_layer:MyLayerConfig, which is not part of memzoo" in lost.stderr
    assert "add --trust" in lost.stderr
    # In the folder of its module, which can be imported.
    words = ["eval", tmp_path / "runs/my-experiment", "--trust", "--json"]
    found = run(*words, cwd=EXAMPLES)
    assert found.returncode == 0, found.stderr
    assert '"layer": "my_layer:MyLayerConfig+attention"' in found.stdout


def test_a_wrong_type_in_a_python_file(tmp_path):
    body = (EXAMPLES / "my_experiment.py").read_text()
    (tmp_path / "wrong.py").write_text(body.replace("steps=400", "steps='many'"))
    (tmp_path / "my_layer.py").write_text((EXAMPLES / "my_layer.py").read_text())
    done = run("train", "wrong.py", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("memzoo: wrong.py, line ")
    assert done.stderr.endswith(
        "InputError: steps is 'many'; give a whole number, 1 or more\n"
    )
    assert not (tmp_path / "runs").exists()


def test_a_reader_that_leaves_is_no_failure(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "memzoo", "list", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0


@pytest.fixture
def handler():
    """Restore the handler of Ctrl-C after a test."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interruption_is_one_line(handler, capsys, monkeypatch):
    """The line also appears while the modules of a command are imported."""

    def interrupted(name, arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("memzoo.commands.run_command", interrupted)
    assert main(["list"]) == 130
    assert capsys.readouterr() == ("", "memzoo: interrupted\n")


BEGIN = """
import atexit, gc, os, signal, sys
from memzoo import commands
from memzoo.__main__ import main

# A parent that runs in the background hands on a SIGINT that is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

def command(name, arguments):
    BODY

commands.run_command = command
sys.exit(main(["list"]))
"""
TWICE = """
    atexit.register(lambda: [None for _ in iter(int, 1)])
    atexit.register(os.kill, os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
"""
IN_A_CALLBACK = """
    gc.callbacks.append(lambda *_: os.kill(os.getpid(), signal.SIGINT))
    gc.collect()
"""


@pytest.mark.parametrize("body", [TWICE, IN_A_CALLBACK], ids=["twice", "callback"])
def test_an_interruption_is_never_lost(tmp_path, body):
    """Ctrl-C ends an exit that hangs, and code that would swallow it."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN.replace("BODY", body)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (130, "memzoo: interrupted\n")
