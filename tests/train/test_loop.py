"""The loop: interruptions do not change its result."""

import dataclasses
import json
import shutil
import signal

import numpy as np
import pytest

from memzoo.configs.experiment import MeshConfig
from memzoo.data.task import DataError
from memzoo.data.text import FolderConfig
from memzoo.errors import CheckpointError, MemzooError
from memzoo.train.checkpoint import saved_steps
from memzoo.train.runs import load_run

# Trains the small experiment in a new process; the argument says how it is interrupted.
SCRIPT = """
import os, signal, sys, threading
import jax
jax.config.update("jax_num_cpu_devices", 8)
from conftest import small_config
from memzoo.errors import MemzooError
from memzoo.train.loop import train

run_dir, fate = sys.argv[1:3]
changes = {}

def on_log(line):
    if line["step"] != 15:
        return
    if fate.startswith("late"):  # somewhere within the save of step 20
        delay = float(fate.removeprefix("late"))
        kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
        threading.Timer(delay, kill).start()
        return
    while not os.path.isdir(os.path.join(run_dir, "checkpoints", "10")):
        pass
    if fate == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fate == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)
    if fate == "full":
        import resource
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

try:
    result = train(small_config(), run_dir, on_log=on_log)
except MemzooError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
sys.exit(result.exit_code)
"""


def test_what_a_run_leaves_behind(unbroken, content, record):
    assert record(unbroken)["status"] == "done"
    assert record(unbroken)["schema"] == 1
    assert set(record(unbroken)) == {
        "schema",
        "status",
        "command",
        "versions",
        "commit",
        "checksum",
        "config",
    }
    names = {path.name for path in unbroken.iterdir()}
    assert names == {
        "config.json",
        "metrics.jsonl",
        "evaluations.jsonl",
        "timings.json",
        "tensorboard",
        "checkpoints",
    }
    *_, lines = content(unbroken)
    assert [line["tokens"] for line in lines] == [5 * 128, 10 * 128, 15 * 128, 20 * 128]
    assert {"step", "loss", "accuracy", "grad_norm", "learning_rate"} <= set(lines[0])


def test_a_finished_run_is_left_alone(unbroken, small, quick_train, content):
    before = content(unbroken)
    result = quick_train(small(), unbroken)
    assert (result.step, result.status) == (20, "done")
    assert result.evaluation["accuracy"] == 0.25
    assert content(unbroken) == before


def test_a_killed_process_goes_on_exactly(
    unbroken, small, run_python, tmp_path, quick_train, content
):
    died = run_python(SCRIPT, tmp_path / "run", "kill")
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert saved_steps(tmp_path / "run" / "checkpoints") == [10]
    quick_train(small(), tmp_path / "run")
    assert content(tmp_path / "run") == content(unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.01, 0.03, 0.06, 0.1, 0.2, 0.4])
def test_a_process_killed_at_any_time_goes_on_exactly(
    unbroken, small, run_python, tmp_path, quick_train, content, delay
):
    died = run_python(SCRIPT, tmp_path / "run", f"late{delay}")
    assert died.returncode in (0, -signal.SIGKILL), died.stderr
    quick_train(small(), tmp_path / "run")
    assert content(tmp_path / "run") == content(unbroken)
    assert saved_steps(tmp_path / "run" / "checkpoints") == [10, 20]


@pytest.mark.slow
def test_a_terminated_process_saves_and_exits_0(run_python, tmp_path, record):
    done = run_python(SCRIPT, tmp_path / "run", "terminate")
    assert done.returncode == 0, done.stderr
    assert saved_steps(tmp_path / "run" / "checkpoints")[-1] >= 15
    assert record(tmp_path / "run")["status"] == "preempted"


def test_a_full_disk_is_one_line_and_leaves_the_last_checkpoint(run_python, tmp_path):
    died = run_python(SCRIPT, tmp_path / "run", "full")
    assert died.returncode == 1, died.stderr
    lines = died.stderr.splitlines()
    (line,) = [line for line in lines if line.startswith("cannot write ")]
    assert "checkpoints/20: File too large; make room" in line
    assert "Traceback" not in died.stderr
    assert load_run(tmp_path / "run").step == 10


def test_a_damaged_checkpoint_is_made_again(
    unbroken, small, tmp_path, capsys, quick_train, content
):
    quick_train(small(), tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "20" / "manifest" / "state.json").write_text("")
    quick_train(small(), tmp_path / "run", progress=True)
    shown = capsys.readouterr().err
    assert "checkpoint 20 is damaged and is skipped: " in shown
    assert "continuing from step 10" in shown
    assert content(tmp_path / "run") == content(unbroken)


def test_a_run_killed_before_its_first_checkpoint_starts_again(
    unbroken, small, tmp_path, capsys, quick_train, content
):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "config.json").write_text((unbroken / "config.json").read_text())
    (run_dir / "metrics.jsonl").write_text('{"step": 5, "loss": 9.0}\n')
    quick_train(small(), run_dir, progress=True)
    assert "no checkpoint yet: starting at step 0" in capsys.readouterr().err
    assert content(run_dir) == content(unbroken)


def test_a_run_without_a_checkpoint_takes_another_config(
    unbroken, small, tmp_path, capsys, quick_train, content, record
):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    found = record(unbroken)
    found["config"]["optimizer"]["learning_rate"] = 9.0
    (run_dir / "config.json").write_text(json.dumps(found | {"status": "failed"}))
    quick_train(small(), run_dir, progress=True)
    said = "no checkpoint yet: starting at step 0 anew, with the new config"
    assert said in capsys.readouterr().err
    assert content(run_dir) == content(unbroken)
    assert record(run_dir)["config"] == record(unbroken)["config"]


def test_a_changed_config_json_is_written_anew(
    unbroken, small, tmp_path, capsys, quick_train, record
):
    """Training knows its config, and the checkpoint the run's."""
    run_dir = shutil.copytree(unbroken, tmp_path / "run")
    found = record(unbroken)
    found["config"]["model"]["norm_epsilon"] = 0.5
    (run_dir / "config.json").write_text(json.dumps(found))
    assert quick_train(small(), run_dir).step == 20
    assert "config.json has changed since memzoo wrote it" in capsys.readouterr().err
    assert record(run_dir)["config"] == record(unbroken)["config"]


def test_fewer_steps_than_are_done_change_nothing(unbroken, small, quick_train, capsys):
    before = (unbroken / "config.json").read_bytes()
    result = quick_train(small(steps=3), unbroken, progress=True)
    assert (result.step, result.status) == (20, "done")
    assert "already at step 20" in capsys.readouterr().err
    assert (unbroken / "config.json").read_bytes() == before


def test_another_model_and_changed_data_are_refused(unbroken, small, quick_train):
    config = small()
    before = (unbroken / "config.json").read_bytes()
    model = dataclasses.replace(config.model, width=16)
    with pytest.raises(MemzooError, match=r"model.width = 8 and the config now has"):
        quick_train(small(model=model), unbroken)
    task = dataclasses.replace(config.task, seed=5)
    with pytest.raises(CheckpointError, match="data has changed: seed was 0 and is 5"):
        quick_train(small(task=task), unbroken)
    assert (unbroken / "config.json").read_bytes() == before


def test_devices_that_do_not_fit_are_refused(small, tmp_path, quick_train):
    with pytest.raises(ValueError, match="needs 16 devices"):
        quick_train(small(mesh=MeshConfig(data=16)), tmp_path / "run")
    with pytest.raises(ValueError, match="8 rows cannot be divided"):
        quick_train(small(mesh=MeshConfig(data=3)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def bytes_config(small, folder, **fields):
    """Return the small experiment on the text files of a folder."""
    task = FolderConfig(path=str(folder), length=16, **fields)
    model = dataclasses.replace(small().model, vocab_size=task.vocab_size)
    return small(task=task, model=model, steps=2, log_every=1)


def test_the_validation_split_is_looked_at_before_any_work(
    small, tmp_path, quick_train
):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("abc")
    config = bytes_config(small, tmp_path / "text")
    with pytest.raises(DataError, match="the validation split has no documents; giv"):
        quick_train(config, tmp_path / "run", on_log=pytest.fail)
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_share_of_0_is_no_evaluation(small, tmp_path, quick_train, record):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("abc" * 50)
    config = bytes_config(small, tmp_path / "text", validation=0.0)
    config = dataclasses.replace(config, evaluate_every=1)
    result = quick_train(config, tmp_path / "run", evaluator=pytest.fail)
    assert (result.step, result.status, result.evaluation) == (2, "done", None)
    assert record(tmp_path / "run")["status"] == "done"
    assert not (tmp_path / "run" / "evaluations.jsonl").read_text()


def test_any_failure_is_recorded(small, tmp_path, quick_train, record):
    """Our own bugs too: config.json must not say `running` forever."""

    def fails(line):
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        quick_train(small(), tmp_path / "run", on_log=fails)
    assert record(tmp_path / "run")["status"] == "failed"


@pytest.mark.slow
def test_devices_may_change_between_stretches(
    unbroken, small, tmp_path, quick_train, content, send
):
    config = small(mesh=MeshConfig(data=2, fsdp=2, tensor=2))
    quick_train(config, tmp_path / "run", on_log=send(signal.SIGTERM, 10))
    quick_train(small(), tmp_path / "run")
    *_, expected = content(unbroken)
    *_, found = content(tmp_path / "run")
    np.testing.assert_allclose(
        [line["loss"] for line in found],
        [line["loss"] for line in expected],
        rtol=1e-4,
    )
