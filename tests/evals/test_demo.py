"""The demo, with a real but very small sweep."""

import dataclasses
import json
import shutil
import signal

import pytest

from memzoo.errors import CheckpointError, MemzooError
from memzoo.evals import demo, sweep
from memzoo.evals.command import EvalConfig, evaluate_run
from memzoo.evals.demo import DemoConfig, check_reloaded
from memzoo.evals.recall_config import RecallConfig
from memzoo.evals.results import read_results
from memzoo.evals.tasks.mqar import MqarRecall
from memzoo.train.loop import TrainResult
from memzoo.train.sealed import seal

BITS = {"metric": "bits_per_byte", "value": 2.5, "setting": {"length": 256}}
RIGHT = BITS | {"metric": "accuracy", "value": 0.5}
CONTEXT = {"length": 256, "context_from": 1, "context_to": 8}
TEXT_ROWS = [BITS, RIGHT, BITS | {"setting": CONTEXT}, RIGHT | {"setting": CONTEXT}]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A sweep of one training of four steps, with the real loop."""
    config = RecallConfig(
        task=MqarRecall(num_pairs=(2, 4), mixture=True, length=16, vocab_size=32),
        layers=("linear_attention",),
        width=(8,),
        depth=1,
        learning_rates=(1e-2,),
        seeds=(0,),
        steps=4,
        batch_size=8,
        evaluate_every=2,
        evaluation_examples=12,
        output=tmp_path_factory.mktemp("runs"),
    )
    sweep.recall(config, progress=False, command=["memzoo", "recall"])
    return config


@pytest.fixture
def run_dir(tiny):
    return tiny.directory / tiny.jobs()[0].place


def test_a_reloaded_model_gives_every_number_it_gave_in_memory(run_dir):
    assert check_reloaded(run_dir) == 3 + 2 * 6


def test_a_number_that_differs_is_named(run_dir):
    path = run_dir / "evaluations.jsonl"
    text = path.read_text()
    last = json.loads(text.splitlines()[-1])
    last["rows"][0]["value"] += 1e-12
    del last["checksum"]
    path.write_text(text + json.dumps(seal(last)) + "\n")
    try:
        with pytest.raises(
            MemzooError, match=r"accuracy at num_pairs 2.* was .* reload"
        ):
            check_reloaded(run_dir)
    finally:
        path.write_text(text)


def test_an_evaluation_that_is_lost_is_named(run_dir, capfd):
    path = run_dir / "evaluations.jsonl"
    text = path.read_text()
    *before, last = text.splitlines()
    try:
        for damaged in (before, [*before, last.replace("0.", "1.", 1)], []):
            path.write_text("".join(f"{line}\n" for line in damaged))
            with pytest.raises(
                CheckpointError, match=r"has lost the evaluation of step \d+; move"
            ):
                check_reloaded(run_dir)
    finally:
        path.write_text(text)


def test_the_command_gives_what_the_sweep_gave(tiny, run_dir):
    swept = {
        (row["setting"]["num_pairs"], row["metric"]): row["value"]
        for row in read_results(tiny.directory / "results.json")
    }
    rows = evaluate_run(EvalConfig(run=run_dir))
    assert {
        (row["setting"]["num_pairs"], row["metric"]): row["value"] for row in rows
    } == swept
    assert {row["checkpoint_step"] for row in rows} == {4}


def test_what_is_damaged_is_trained_again_to_the_same_numbers(tiny, tmp_path, capfd):
    """From its checkpoint, or from step 0 if an evaluation before it is lost."""
    config = dataclasses.replace(tiny, output=tmp_path)
    shutil.copytree(tiny.directory, config.directory)
    place = config.directory / config.jobs()[0].place
    files = ("results.json", place / "outcome.json", place / "evaluations.jsonl")
    before = [(config.directory / file).read_bytes() for file in files]
    for evaluations, message in (
        (before[2], "is trained again, from its newest checkpoint"),
        (before[2].replace(b"2", b"3", 1), "has lost the evaluations of steps 2; "),
    ):
        (place / "outcome.json").write_bytes(before[1].replace(b"0.", b"1.", 1))
        (place / "evaluations.jsonl").write_bytes(evaluations)
        capfd.readouterr()
        sweep.recall(config, progress=False, command=["memzoo", "recall"])
        assert [(config.directory / file).read_bytes() for file in files] == before
        said = capfd.readouterr().err
        assert "outcome.json is damaged: it does not match its checksum; " in said
        assert message in said


def test_evaluating_a_run_of_a_sweep_changes_nothing_in_the_sweep(tiny, run_dir):
    files = [tiny.directory / name for name in ("results.json", "report.html")]
    before = [path.read_bytes() for path in files]
    evaluate_run(EvalConfig(run=run_dir, split="test"))
    sweep.recall(tiny, progress=False, command=["memzoo", "recall"])
    assert [path.read_bytes() for path in files] == before


def test_the_demo_is_three_layers_on_all_pairs_and_one_on_text(tmp_path):
    config = DemoConfig(output=tmp_path)
    jobs = config.recall().jobs()
    assert [job.layer for job in jobs] == [
        "gated_delta_net",
        "linear_attention",
        "attention",
    ]
    assert {job.training.task.num_pairs for job in jobs} == {(4, 8, 16)}
    experiment = config.text()
    assert experiment.task.task_name == "text"
    assert experiment.steps == config.text_steps


def test_the_page_tells_of_recall_text_and_reloading(tiny, monkeypatch, capsys):
    class Tiny(DemoConfig):
        def recall(self):
            return tiny

    checked = []
    rows = [
        row
        | {"layer": "gated_delta_net", "task": "text", "parameters": 5}
        | {"state_bytes": 6, "checkpoint_step": 7, "chance": None}
        for row in TEXT_ROWS
    ]
    monkeypatch.setattr(demo, "train_text", lambda experiment, directory: rows)
    monkeypatch.setattr(demo, "check_reloaded", lambda p: checked.append(p) or 15)
    assert demo.run(Tiny()) == 0
    assert len(checked) == 2
    out = capsys.readouterr().out
    assert out.count("all 15 numbers are exactly those of the model in memory") == 2
    assert "context 1 to 8" in out and "linear_attention" in out
    page = (tiny.directory / "report.html").read_text()
    assert "Real text" in page and "2.50 bits per byte" in page
    assert "Each of the 2 models was loaded from its checkpoint" in page


def test_text_that_was_stopped_says_how_to_go_on(tmp_path, monkeypatch):
    stopped = TrainResult(
        step=7, status="preempted", evaluation=None, asked=signal.SIGINT
    )
    monkeypatch.setattr(demo, "train", lambda experiment, directory: stopped)
    with pytest.raises(sweep.SweepStopped, match="stopped on text, at step 7") as stop:
        demo.train_text(DemoConfig().text(), tmp_path)
    assert stop.value.exit_code == 130


def test_rows_of_text_are_written(tmp_path, monkeypatch):
    experiment = DemoConfig(text_steps=9).text()
    evaluation = {"step": 9, "accuracy": 0.5, "loss": 1.0, "rows": TEXT_ROWS}
    done = TrainResult(step=9, status="done", evaluation=evaluation)
    monkeypatch.setattr(demo, "train", lambda experiment, directory: done)
    rows = demo.train_text(experiment, tmp_path)
    assert rows == read_results(tmp_path / "results.json")
    assert rows[0]["layer"] == "gated_delta_net"
