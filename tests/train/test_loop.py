"""The loop: whatever interrupts it, it ends as if nothing had."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from memzoo.configs.errors import CheckpointError, MemzooError, NonFiniteError
from memzoo.configs.experiment import MeshConfig
from memzoo.data.pipeline import Pipeline
from memzoo.evals.evaluate import Evaluation
from memzoo.train.checkpoint import read_manifest, saved_steps
from memzoo.train.loop import train
from memzoo.train.metrics import read_lines
from memzoo.train.runs import load_run

# Trains the small experiment in a new process; what happens to it is the argument.
SCRIPT = """
import os, signal, sys
import jax
jax.config.update("jax_num_cpu_devices", 8)
from conftest import small_config
from memzoo.configs.errors import MemzooError
from memzoo.train.loop import train

run_dir, fate = sys.argv[1:3]
changes = {}

def on_log(line):
    if line["step"] != 15:
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


def known(model, task, *, split, examples, batch_size):
    """An evaluation that costs nothing."""
    return Evaluation(accuracy=0.25, loss=1.5, rows=[])


def quick_train(config, run_dir, **options):
    return train(config, run_dir, progress=False, evaluator=known, **options)


def content(run_dir, step=20):
    """Everything in a run that must not depend on how it came about."""
    manifest, data = read_manifest(Path(run_dir) / "checkpoints", step)
    lines = read_lines(Path(run_dir) / "metrics.jsonl")
    for line in lines:
        del line["tokens_per_second"]
    return manifest["leaves"], data, lines


@pytest.fixture(scope="module")
def unbroken(small, tmp_path_factory):
    """A run of 20 steps, from start to end."""
    run_dir = tmp_path_factory.mktemp("runs") / "unbroken"
    seen = []
    result = quick_train(small(), run_dir, on_log=seen.append)
    assert (result.step, result.status, result.exit_code) == (20, "done", 0)
    assert result.evaluation == {"step": 20, "accuracy": 0.25, "loss": 1.5, "rows": []}
    assert [line["step"] for line in seen] == [5, 10, 15, 20]
    return run_dir


def record(run_dir):
    return json.loads((run_dir / "config.json").read_text())


def send(number, at_step):
    """A callback that sends a signal to this process."""

    def on_log(line):
        if line["step"] == at_step:
            signal.raise_signal(number)

    return on_log


def test_what_a_run_leaves_behind(unbroken):
    assert record(unbroken)["status"] == "done"
    assert record(unbroken)["schema"] == 1
    assert set(record(unbroken)) == {
        "schema",
        "status",
        "command",
        "versions",
        "commit",
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


def test_a_finished_run_is_left_alone(unbroken, small):
    before = content(unbroken)
    result = quick_train(small(), unbroken)
    assert (result.step, result.status) == (20, "done")
    assert result.evaluation["accuracy"] == 0.25
    assert content(unbroken) == before


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)]
)
def test_asked_to_stop_saves_and_goes_on_exactly(
    unbroken, small, tmp_path, capsys, number, exit_code
):
    result = quick_train(small(), tmp_path / "run", on_log=send(number, 5))
    assert (result.step, result.status) == (5, "preempted")
    assert result.exit_code == exit_code
    assert record(tmp_path / "run")["status"] == "preempted"
    assert "saved at step 5 of 20; start the command again" in capsys.readouterr().err
    quick_train(small(), tmp_path / "run")
    assert content(tmp_path / "run") == content(unbroken)
    assert record(tmp_path / "run")["status"] == "done"


def test_a_killed_process_goes_on_exactly(unbroken, small, run_python, tmp_path):
    died = run_python(SCRIPT, tmp_path / "run", "kill")
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert saved_steps(tmp_path / "run" / "checkpoints") == [10]
    quick_train(small(), tmp_path / "run")
    assert content(tmp_path / "run") == content(unbroken)


def test_a_terminated_process_saves_and_exits_0(run_python, tmp_path):
    done = run_python(SCRIPT, tmp_path / "run", "terminate")
    assert done.returncode == 0, done.stderr
    assert saved_steps(tmp_path / "run" / "checkpoints")[-1] >= 15
    assert record(tmp_path / "run")["status"] == "preempted"


def test_a_full_disk_is_one_line_and_leaves_the_last_checkpoint(run_python, tmp_path):
    died = run_python(SCRIPT, tmp_path / "run", "full")
    assert died.returncode == 1, died.stderr
    lines = died.stderr.splitlines()
    (line,) = [line for line in lines if not line.startswith("step ")]
    assert line.startswith("cannot write ") and "File too large; make room" in line
    assert load_run(tmp_path / "run").step == 10


def test_a_damaged_checkpoint_is_made_again(unbroken, small, tmp_path, capsys):
    quick_train(small(), tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "20" / "manifest" / "state.json").write_text("")
    quick_train(small(), tmp_path / "run")
    shown = capsys.readouterr().err
    assert "checkpoint 20 is damaged and is skipped: " in shown
    assert "going on from step 10" in shown
    assert content(tmp_path / "run") == content(unbroken)


def test_a_run_killed_before_its_first_checkpoint_starts_again(
    unbroken, small, tmp_path, capsys
):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "config.json").write_text((unbroken / "config.json").read_text())
    (run_dir / "metrics.jsonl").write_text('{"step": 5, "loss": 9.0}\n')
    quick_train(small(), run_dir)
    assert "no checkpoint yet: starting at step 0" in capsys.readouterr().err
    assert content(run_dir) == content(unbroken)


def test_another_model_and_changed_data_are_refused(unbroken, small):
    config = small()
    before = (unbroken / "config.json").read_bytes()
    model = dataclasses.replace(config.model, width=16)
    with pytest.raises(MemzooError, match=r"model.width = 8 and the config now says"):
        quick_train(small(model=model), unbroken)
    task = dataclasses.replace(config.task, seed=5)
    with pytest.raises(CheckpointError, match="data has changed: seed was 0 and is 5"):
        quick_train(small(task=task), unbroken)
    assert (unbroken / "config.json").read_bytes() == before


def test_devices_that_do_not_fit_are_refused(small, tmp_path):
    with pytest.raises(ValueError, match="needs 16 devices"):
        quick_train(small(mesh=MeshConfig(data=16)), tmp_path / "run")
    with pytest.raises(ValueError, match="8 rows cannot be shared out"):
        quick_train(small(mesh=MeshConfig(data=3)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_the_run(small, tmp_path, monkeypatch):
    spoil(monkeypatch, at_batch=13)
    with pytest.raises(
        NonFiniteError,
        match=r"not finite at step 13; the last good checkpoint is step 10; try a",
    ) as stop:
        quick_train(small(), tmp_path / "run")
    assert stop.value.exit_code == 3
    assert saved_steps(tmp_path / "run" / "checkpoints") == [10]
    assert record(tmp_path / "run")["status"] == "failed"
    lines = read_lines(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in lines] == [5, 10]


def test_a_checkpoint_is_not_taken_of_a_failed_run(small, tmp_path, monkeypatch):
    spoil(monkeypatch, at_batch=2)
    with pytest.raises(NonFiniteError, match="step 2; there is no checkpoint; try"):
        quick_train(small(log_every=20, checkpoint_every=3), tmp_path / "run")
    assert not saved_steps(tmp_path / "run" / "checkpoints")


def spoil(monkeypatch, at_batch):
    """One target weight of one batch is NaN."""
    take, taken = Pipeline.__next__, []

    def take_spoiled(self):
        batch = take(self)
        taken.append(batch)
        if len(taken) == at_batch:
            batch.target_weights[0, 0] = np.nan
        return batch

    monkeypatch.setattr(Pipeline, "__next__", take_spoiled)


def test_enough_accuracy_ends_the_run(small, tmp_path):
    config = small(evaluate_every=3, stop_at_accuracy=0.2)
    for _ in range(2):
        result = quick_train(config, tmp_path / "run")
        assert (result.step, result.status) == (3, "stopped_early")
        assert result.evaluation["accuracy"] == 0.25
    assert saved_steps(tmp_path / "run" / "checkpoints") == [3]
    assert record(tmp_path / "run")["status"] == "stopped_early"


@pytest.mark.slow
def test_it_learns_and_evaluates_with_the_real_measure(small, tmp_path):
    config = small(evaluate_every=10, mesh=MeshConfig(data=2, fsdp=2, tensor=2))
    result = train(config, tmp_path / "run", progress=False)
    assert set(result.evaluation) == {"step", "accuracy", "loss", "rows"}
    lines = read_lines(tmp_path / "run" / "evaluations.jsonl")
    assert [line["step"] for line in lines] == [10, 20]
    assert result.evaluation["loss"] < np.log(32) + 0.1


@pytest.mark.slow
def test_devices_may_change_between_stretches(unbroken, small, tmp_path):
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


TWO_PROCESSES = """
import sys
import jax
jax.config.update("jax_num_cpu_devices", 2)
index, port, run_dir = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.distributed.initialize(f"localhost:{port}", 2, index)
from conftest import small_config
from memzoo.configs.experiment import MeshConfig
from memzoo.evals.evaluate import Evaluation
from memzoo.train.loop import train
result = train(
    small_config(mesh=MeshConfig(data=2, fsdp=2)),
    run_dir,
    progress=False,
    evaluator=lambda *_, **__: Evaluation(accuracy=0.25, loss=1.5, rows=[]),
)
assert result.status == "done"
"""


@pytest.mark.slow
def test_two_processes_train_one_model(unbroken, small, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(TWO_PROCESSES)
    port = str(20000 + os.getpid() % 20000)
    here = os.path.dirname(__file__)
    processes = [
        subprocess.Popen(
            [sys.executable, script, str(index), port, tmp_path / "run"],
            env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": here},
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=400)
        assert process.returncode == 0, errors
    *_, expected = content(unbroken)
    *_, found = content(tmp_path / "run")
    np.testing.assert_allclose(
        [line["loss"] for line in found],
        [line["loss"] for line in expected],
        rtol=1e-4,
    )
    # One process reads what two wrote.
    assert load_run(tmp_path / "run").step == 20
    assert quick_train(small(), tmp_path / "run").step == 20
    assert jax.process_count() == 1
