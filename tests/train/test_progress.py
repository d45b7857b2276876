"""Progress without a terminal."""

import errno
import io
import sys

import pytest

from memzoo.train.progress import Screen, _StandardError

LINE = {"step": 5, "loss": 1.25, "accuracy": 0.5, "tokens_per_second": 1234.5}


def test_lines_instead_of_a_bar(capsys):
    with Screen("run", 10, shown=True) as screen:
        screen.compiling()
        screen.at(5)
        screen.numbers(LINE)
        screen.numbers(LINE | {"step": 6})
        screen.numbers(LINE | {"step": 10})
    shown = capsys.readouterr()
    assert shown.out == ""
    numbers = "loss 1.2500  accuracy 0.500  1,234 tokens/s"
    steps = [f"step {n}/10  {numbers}" for n in (5, 10)]
    assert shown.err.splitlines() == ["compiling the training step", *steps]


def test_quiet_but_for_what_is_said(capsys):
    with Screen("run", 10, shown=False) as screen:
        screen.compiling()
        screen.numbers(LINE)
        screen.say("checkpoint 3 is [damaged]")
        screen.note("continuing from step 3")
    assert capsys.readouterr().err == "checkpoint 3 is [damaged]\n"


class Closed(io.StringIO):
    """A terminal or pipe whose other end is closed."""

    def __init__(self, terminal):
        super().__init__()
        self.isatty = lambda: terminal
        self.asked = 0

    def write(self, text):
        self.asked += 1
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_closed_terminal_does_not_end_the_run(monkeypatch, terminal):
    closed = Closed(terminal)
    monkeypatch.setattr(sys, "stderr", closed)
    with Screen("run", 10, shown=True) as screen:
        screen.at(5)
        screen.numbers(LINE)
        screen.say("SIGHUP: saved")
    assert closed.asked


def test_a_closed_file_takes_no_text(monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    stream = _StandardError()
    assert stream.write("text") == 4
    # Python calls this when the object ends, and prints the error of a flush.
    stream.close()
