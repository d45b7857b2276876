import numpy as np
import pytest

from memzoo.benchmarks import serving


def prepare(operation, arrays, options):
    raise AssertionError("nothing is to be prepared")


def test_an_unknown_command_is_refused():
    with pytest.raises(ValueError, match="unknown command 'dance'"):
        serving._answer({"command": "dance"}, {}, prepare, dict)


def test_a_run_times_its_passes_after_one_that_is_not_timed():
    passes = []
    answer = serving._run(lambda: passes.append(1), 4, True)
    assert len(passes) == 5
    serving._run(lambda: passes.append(1), 2, False)
    assert len(passes) == 7
    assert set(answer) == {"cpu_seconds", "wall_seconds"}


def test_memory_is_what_a_pass_adds():
    def touch():
        np.ones(8_000_000)

    growth = serving._peak_growth(touch)
    if growth is None:
        pytest.skip("this system does not tell a process its peak")
    assert 60e6 < growth < 120e6


def test_a_system_that_tells_no_peak_gives_none(monkeypatch):
    def refuse(field):
        raise OSError("no /proc here")

    monkeypatch.setattr(serving, "_status_bytes", refuse)
    assert serving._peak_growth(lambda: None) is None
