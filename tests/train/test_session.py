"""A stretch of a run: its reports, and reasons to stop."""

import json
import signal

import numpy as np
import pytest

from memzoo.configs.experiment import MeshConfig, OptimizerConfig
from memzoo.data.pipeline import Pipeline
from memzoo.data.task import DataError
from memzoo.errors import NonFiniteError
from memzoo.evals.evaluate import Evaluation
from memzoo.train.checkpoint import saved_steps
from memzoo.train.metrics import read_lines


def test_what_a_run_returns_and_reports(small, quick_train, tmp_path):
    seen = []
    result = quick_train(small(), tmp_path / "run", on_log=seen.append)
    assert (result.step, result.status, result.exit_code) == (20, "done", 0)
    assert result.evaluation == {"step": 20, "accuracy": 0.25, "loss": 1.5, "rows": []}
    assert [line["step"] for line in seen] == [5, 10, 15, 20]
    assert seen == read_lines(tmp_path / "run" / "metrics.jsonl")
    assert read_lines(tmp_path / "run" / "evaluations.jsonl") == [result.evaluation]


@pytest.mark.parametrize(
    ("number", "exit_code"),
    [(signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGINT, 130)],
)
def test_asked_to_stop_saves_and_goes_on_exactly(
    unbroken,
    small,
    tmp_path,
    capsys,
    number,
    exit_code,
    quick_train,
    content,
    record,
    send,
):
    result = quick_train(small(), tmp_path / "run", on_log=send(number, 5))
    assert (result.step, result.status) == (5, "preempted")
    assert result.exit_code == exit_code
    assert record(tmp_path / "run")["status"] == "preempted"
    assert "saved at step 5 of 20; start the command again" in capsys.readouterr().err
    quick_train(small(), tmp_path / "run")
    assert content(tmp_path / "run") == content(unbroken)
    assert record(tmp_path / "run")["status"] == "done"


def test_a_stop_with_the_last_step_is_told_to_whoever_would_go_on(
    small, tmp_path, quick_train, send
):
    result = quick_train(
        small(), tmp_path / "run", on_log=send(signal.SIGINT, small().steps)
    )
    assert (result.step, result.status, result.exit_code) == (20, "done", 0)
    assert result.asked == signal.SIGINT


def test_a_loss_that_is_not_finite_stops_the_run(
    small, tmp_path, monkeypatch, quick_train, record
):
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


def test_a_checkpoint_is_not_taken_of_a_failed_run(
    small, tmp_path, monkeypatch, quick_train
):
    spoil(monkeypatch, at_batch=2)
    with pytest.raises(NonFiniteError, match="step 2; there is no checkpoint; try"):
        quick_train(small(log_every=20, checkpoint_every=3), tmp_path / "run")
    assert not saved_steps(tmp_path / "run" / "checkpoints")


@pytest.mark.parametrize(
    ("every", "good"),
    [
        (6, "the last good checkpoint is step 6; try"),
        (12, "the checkpoint of step 12 leads here, and no other is left; try"),
    ],
)
def test_the_checkpoint_that_leads_to_it_is_not_called_good(
    small, tmp_path, monkeypatch, quick_train, every, good
):
    spoil(monkeypatch, at_batch=13)
    config = small(log_every=1, checkpoint_every=every)
    with pytest.raises(NonFiniteError, match=rf"not finite at step 13; .*{good}"):
        quick_train(config, tmp_path / "run")
    assert saved_steps(tmp_path / "run" / "checkpoints")[-1] == 12


def test_an_exploded_step_is_neither_saved_nor_called_good(
    small, tmp_path, quick_train, record
):
    optimizer = OptimizerConfig(learning_rate=1e38, warmup_steps=0)
    config = small(optimizer=optimizer, checkpoint_every=1, steps=3)
    with pytest.raises(
        NonFiniteError, match=r"not finite at step 1; there is no checkpoint; try a low"
    ):
        quick_train(config, tmp_path / "run")
    assert not saved_steps(tmp_path / "run" / "checkpoints")
    assert record(tmp_path / "run")["status"] == "failed"


def test_an_evaluation_that_is_not_finite_stops_the_run(
    small, tmp_path, quick_train, record
):
    """The checkpoint exists, and is not called good."""
    calls = []

    def evaluator(*args, **kwargs):
        calls.append(args)
        loss = 1.0 if len(calls) < 3 else np.nan
        return Evaluation(accuracy=0.5, loss=loss, rows=[])

    with pytest.raises(
        NonFiniteError,
        match=r"the evaluation is not finite at step 15; the last good .* is step 10;",
    ) as stop:
        config = small(evaluate_every=5, checkpoint_every=5)
        quick_train(config, tmp_path / "run", evaluator=evaluator)
    assert stop.value.exit_code == 3
    assert saved_steps(tmp_path / "run" / "checkpoints") == [10, 15]
    assert record(tmp_path / "run")["status"] == "failed"
    lines = (tmp_path / "run" / "evaluations.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [5, 10]


def test_the_last_step_is_saved_before_it_is_measured(
    small, tmp_path, quick_train, record, content, unbroken
):
    """A failed evaluation loses nothing, is recorded, and is repeated."""

    def evaluator(*args, **kwargs):
        raise DataError("the validation split is gone")

    with pytest.raises(DataError, match="is gone"):
        quick_train(small(), tmp_path / "run", evaluator=evaluator)
    assert saved_steps(tmp_path / "run" / "checkpoints") == [10, 20]
    assert record(tmp_path / "run")["status"] == "failed"
    result = quick_train(small(), tmp_path / "run")
    assert result.evaluation["step"] == 20
    assert content(tmp_path / "run") == content(unbroken)
    assert record(tmp_path / "run")["status"] == "done"


def test_what_was_due_when_it_stopped_is_measured_when_it_goes_on(
    small, tmp_path, quick_train, send
):
    config = small(evaluate_every=5)
    stopped = quick_train(config, tmp_path / "run", on_log=send(signal.SIGTERM, 10))
    assert (stopped.status, stopped.evaluation["step"]) == ("preempted", 5)
    for _ in range(2):
        quick_train(config, tmp_path / "run")
        lines = read_lines(tmp_path / "run" / "evaluations.jsonl")
        assert [line["step"] for line in lines] == [5, 10, 15, 20]


def spoil(monkeypatch, at_batch):
    """Set one target weight of one batch to NaN."""
    take, taken = Pipeline.__next__, []

    def take_spoiled(self):
        batch = take(self)
        taken.append(batch)
        if len(taken) == at_batch:
            batch.target_weights[0, 0] = np.nan
        return batch

    monkeypatch.setattr(Pipeline, "__next__", take_spoiled)


def test_enough_accuracy_ends_the_run(small, tmp_path, quick_train, record):
    config = small(evaluate_every=3, stop_at_accuracy=0.2)
    for _ in range(2):
        result = quick_train(config, tmp_path / "run")
        assert (result.step, result.status) == (3, "stopped_early")
        assert result.evaluation["accuracy"] == 0.25
    assert saved_steps(tmp_path / "run" / "checkpoints") == [3]
    assert record(tmp_path / "run")["status"] == "stopped_early"


@pytest.mark.slow
def test_it_learns_and_evaluates_with_the_real_measure(small, tmp_path, quick_train):
    config = small(evaluate_every=10, mesh=MeshConfig(data=2, fsdp=2, tensor=2))
    result = quick_train(config, tmp_path / "run", evaluator=None)
    assert set(result.evaluation) == {"step", "accuracy", "loss", "rows"}
    lines = read_lines(tmp_path / "run" / "evaluations.jsonl")
    assert [line["step"] for line in lines] == [10, 20]
    assert result.evaluation["loss"] < np.log(32) + 0.1
