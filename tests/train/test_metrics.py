"""The files that a run reports to."""

import json

import pytest

from memzoo.train.metrics import RunLog, read_lines
from memzoo.train.writing import SaveError


def line(step, loss=1.0):
    return {"step": step, "loss": loss, "metric/load": [[0.5, 1.5]]}


def test_lines_past_the_restored_step_are_dropped(tmp_path):
    log = RunLog(tmp_path, 0, writes=True)
    assert log.last_evaluation is None
    for step in (5, 10, 15):
        log.step(line(step))
    rows = [{"metric": "loss"}]
    log.evaluation({"step": 10, "accuracy": 0.25, "loss": 1.0, "rows": rows})
    log.evaluation({"step": 15, "accuracy": 0.5})
    log = RunLog(tmp_path, 10, writes=True)
    assert log.last_evaluation["accuracy"] == 0.25
    log.step(line(15, loss=2.0))
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert [each["step"] for each in lines] == [5, 10, 15]
    assert lines[-1] == line(15, loss=2.0)


def test_a_line_that_was_cut_off_is_dropped(tmp_path):
    RunLog(tmp_path, 0, writes=True).step(line(5))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 10, "lo')
    RunLog(tmp_path, 10, writes=True).step(line(15))
    assert [each["step"] for each in read_lines(tmp_path / "metrics.jsonl")] == [5, 15]


@pytest.mark.parametrize(
    "bad",
    [b"no json", b"[5]", b'{"loss": 1.0}', b'{"step": "5"}', b"\xff\xfe", b"[" * 9999],
)
def test_lines_that_cannot_be_read_are_skipped(tmp_path, bad):
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        lines = [json.dumps(line(5)).encode(), bad, json.dumps(line(10)).encode(), b""]
        (tmp_path / name).write_bytes(b"\n".join(lines))
    said = []
    log = RunLog(tmp_path, 10, writes=True, report=said.append)
    log.step(line(15))
    assert log.last_evaluation is None  # without an accuracy
    steps = [each["step"] for each in read_lines(tmp_path / "metrics.jsonl")]
    assert steps == [5, 10, 15]
    assert len(said) == 2
    assert "metrics.jsonl: skipped 1 of its lines" in said[0]
    assert "(the first is line 2)" in said[0] and "evaluations.jsonl" in said[1]


def test_an_evaluation_that_was_changed_is_dropped(tmp_path):
    log = RunLog(tmp_path, 0, writes=True)
    for step in (5, 10):
        line = {"step": step, "accuracy": step / 16, "loss": 1.0, "rows": []}
        log.evaluation(line)
    path = tmp_path / "evaluations.jsonl"
    whole = path.read_text()
    # The files are read and rewritten, byte for byte.
    log = RunLog(tmp_path, 10, writes=True)
    assert path.read_text() == whole
    assert log.last_evaluation == line
    path.write_text(whole.replace("0.625", "0.125"))
    said = []
    log = RunLog(tmp_path, 10, writes=True, report=said.append)
    assert log.last_evaluation["step"] == 5
    assert "evaluations.jsonl: skipped 1 of its lines" in said[0]
    assert "or damaged (the first is line 2)" in said[0]


@pytest.mark.parametrize(
    ("text", "kept"),
    [(b"", 0), (b"\xff", 0), (b"{}", 0), (b'[{"wall_seconds": 1.0}, 5]', 1)],
)
def test_timings_that_cannot_be_read_do_not_stop_a_run(tmp_path, text, kept):
    (tmp_path / "timings.json").write_bytes(text)
    said = []
    log = RunLog(tmp_path, 0, writes=True, report=said.append)
    for _ in range(2):
        log.timings({"wall_seconds": 2.0})
    entries = json.loads((tmp_path / "timings.json").read_text())
    assert [each["wall_seconds"] for each in entries] == [1.0] * kept + [2.0, 2.0]
    assert len(said) == 1 and f"timings.json: kept {kept} earlier entries" in said[0]


def strictly(path):
    """Return the lines of a file, parsed as strict JSON."""

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    text = path.read_text()
    return [json.loads(each, parse_constant=refuse) for each in text.splitlines()]


def test_what_is_not_finite_is_null_in_json(tmp_path):
    log = RunLog(tmp_path, 0, writes=True)
    nan, inf = float("nan"), float("inf")
    log.step({"step": 5, "loss": 1.0, "metric/load": [[0.5, nan], [inf, -inf]]})
    (found,) = strictly(tmp_path / "metrics.jsonl")
    assert found["metric/load"] == [[0.5, None], [None, None]] and found["loss"] == 1.0


@pytest.mark.parametrize(
    "numbers", [{"accuracy": float("nan")}, {"loss": float("nan")}, {"loss": None}]
)
def test_an_evaluation_without_numbers_is_none(tmp_path, numbers):
    fine = {"step": 5, "accuracy": 0.5, "loss": 1.0, "rows": []}
    path = tmp_path / "evaluations.jsonl"
    path.write_text(json.dumps(fine) + "\n" + json.dumps(fine | numbers) + "\n")
    assert RunLog(tmp_path, 5, writes=False).last_evaluation == fine
    RunLog(tmp_path, 5, writes=True)
    assert len(strictly(path)) == 2


def test_only_one_process_writes(tmp_path):
    log = RunLog(tmp_path, 0, writes=False)
    log.step(line(5))
    log.timings({"wall_seconds": 1.0})
    assert not list(tmp_path.iterdir())


def test_timings_are_added(tmp_path):
    for seconds in (1.0, 2.0):
        RunLog(tmp_path, 0, writes=True).timings({"wall_seconds": seconds})
    entries = json.loads((tmp_path / "timings.json").read_text())
    assert [entry["wall_seconds"] for entry in entries] == [1.0, 2.0]


def test_a_file_that_cannot_be_written_is_one_line(tmp_path):
    log = RunLog(tmp_path, 0, writes=True)
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(SaveError, match=r"metrics.jsonl: Is a directory; move that"):
        log.step(line(5))


def test_timings_that_cannot_be_written_are_seen_before_the_first_step(tmp_path):
    (tmp_path / "timings.json").mkdir()
    with pytest.raises(SaveError, match=r"timings.json: Is a directory; move that"):
        RunLog(tmp_path, 0, writes=True)
