import numpy as np
import pytest

from memzoo.benchmarks import serving


def prepare(arrays, options):
    raise AssertionError("nothing is to be prepared")


def test_an_unknown_command_is_refused():
    with pytest.raises(ValueError, match="unknown command 'dance'"):
        serving._answer({"command": "dance"}, {}, prepare, dict)


def test_a_run_times_its_passes_after_one_that_is_not_timed():
    passes = []
    case = serving.Prepared(lambda: passes.append(1), dict, lambda: passes.append(0))
    answer = serving._run(case, 4, True)
    # Asynchronous passes are waited for before the clock stops.
    assert passes == [1, 0, 1, 1, 1, 1, 0]
    serving._run(case, 2, False)
    assert passes[7:] == [1, 1, 0]
    assert set(answer) == {"cpu_seconds", "wall_seconds"}


def test_memory_is_what_a_pass_adds():
    def touch():
        np.ones(8_000_000)

    growth = serving._peak_growth(touch)
    if growth is None:
        pytest.skip("this system does not tell a process its peak")
    assert 60e6 < growth < 120e6


def test_a_case_that_knows_its_memory_is_asked_and_may_be_forgotten():
    case = serving.Prepared(lambda: None, dict, peak=lambda: 7)
    cases = {"x": case}
    answer = serving._answer({"command": "memory", "name": "x"}, cases, prepare, dict)
    assert answer == {"peak_bytes": 7}
    serving._answer({"command": "forget", "name": "x"}, cases, prepare, dict)
    assert not cases


def test_a_system_that_tells_no_peak_gives_none(monkeypatch):
    def refuse(field):
        raise OSError("no /proc here")

    monkeypatch.setattr(serving, "_status_bytes", refuse)
    assert serving._peak_growth(lambda: None) is None
    assert serving.resident_peak() is None


def test_a_case_is_prepared_and_run_once_before_its_results_are_asked(tmp_path):
    events = []

    def prepare(arrays, options):
        events.append(options["operation"])
        return serving.Prepared(
            lambda: events.append("call"),
            lambda: {"output": arrays["x"] * len(events)},
            lambda: events.append("finish"),
        )

    np.savez(tmp_path / "in.npz", x=np.ones(2))
    request = {
        "command": "prepare",
        "name": "a",
        "inputs": str(tmp_path / "in.npz"),
        "options": {"operation": "delta"},
    }
    cases = {}
    answer = serving._answer(request, cases, prepare, dict)
    assert events == ["delta", "call", "finish"] and list(cases) == ["a"]
    assert answer["first_seconds"] >= 0
    request = {"command": "results", "name": "a", "outputs": str(tmp_path / "out.npz")}
    serving._answer(request, cases, prepare, dict)
    with np.load(tmp_path / "out.npz") as stored:
        assert stored["output"].tolist() == [3.0, 3.0]


def test_the_whole_process_is_counted_at_its_peak():
    try:
        before = serving._status_bytes("VmHWM")
    except OSError:
        pytest.skip("this system does not tell a process its memory")
    held = np.ones(before // 8)
    peak = serving.resident_peak()
    assert before < held.nbytes + before // 8 < peak < 3 * before
