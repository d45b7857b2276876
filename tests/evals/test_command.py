"""`memzoo eval`, on a run whose loading is faked."""

import dataclasses
import io
import json
from types import SimpleNamespace

import pytest
from rich.console import Console

from memzoo.errors import CheckpointError, MemzooError
from memzoo.evals import command
from memzoo.evals.command import EvalConfig, evaluate_run, print_results
from memzoo.evals.recall_config import RecallConfig
from memzoo.evals.results import read_results
from memzoo.evals.tasks.mqar import MqarRecall
from memzoo.parsing import parse
from memzoo.train.writing import SaveError

SMALL = RecallConfig(
    task=MqarRecall(num_pairs=(2, 4), mixture=True, length=16, vocab_size=32),
    layers=("attention",),
    width=(8,),
    evaluation_examples=8,
    batch_size=4,
)


@pytest.fixture
def loads(bigram, monkeypatch):
    """Record which checkpoints were requested; step 20 is the newest."""
    asked = []

    def load_run(run_dir, step=None, *, report=None, trust=False):
        asked.append((run_dir, step))
        experiment = SMALL.experiment(SMALL.jobs()[0])
        model = bigram(32, step or 20)
        return SimpleNamespace(config=experiment, model=model, step=step or 20)

    monkeypatch.setattr(command, "load_run", load_run)
    return asked


def test_the_newest_checkpoint_is_measured_and_written(loads, tmp_path, capsys):
    assert command.run(EvalConfig(run=tmp_path)) == 0
    assert loads == [(tmp_path, None)]
    rows = read_results(tmp_path / "results.json")
    assert {row["checkpoint_step"] for row in rows} == {20}
    assert {row["setting"]["num_pairs"] for row in rows} == {2, 4}
    out = capsys.readouterr().out
    assert "attention on mqar, step 20" in out
    assert "4 pairs, 16 tokens" in out and "0.2500" in out


def test_json_is_what_was_written(loads, tmp_path, capsys):
    command.run(EvalConfig(run=tmp_path, json=True, checkpoint=10))
    assert loads == [(tmp_path, 10)]
    rows = json.loads(capsys.readouterr().out)
    assert rows == read_results(tmp_path / "results.json")


def test_what_cannot_be_kept_is_shown(loads, tmp_path, capsys, monkeypatch):
    def full(path, rows):
        raise SaveError(f"cannot write {path}: Permission denied; make room there")

    monkeypatch.setattr(command, "write_results", full)
    assert command.run(EvalConfig(run=tmp_path)) == 0
    said = capsys.readouterr()
    assert "attention on mqar, step 20" in said.out
    assert said.err == (
        "memzoo: warning: the results are not saved: cannot write "
        f"{tmp_path / 'results.json'}: Permission denied\n"
    )
    with pytest.raises(SaveError, match="Permission denied"):
        evaluate_run(EvalConfig(run=tmp_path))


def test_measuring_again_changes_nothing_and_loses_nothing(loads, tmp_path):
    config = EvalConfig(run=tmp_path)
    first = evaluate_run(config)
    before = (tmp_path / "results.json").read_bytes()
    assert evaluate_run(config) == first
    assert (tmp_path / "results.json").read_bytes() == before
    evaluate_run(dataclasses.replace(config, checkpoint=10))
    test = evaluate_run(dataclasses.replace(config, split="test"))
    assert test[0]["setting"]["split"] == "test"
    rows = read_results(tmp_path / "results.json")
    assert len(rows) == 3 * len(first)
    assert [row["checkpoint_step"] for row in rows] == sorted(
        row["checkpoint_step"] for row in rows
    )


@pytest.mark.parametrize("text", ["", "[]", "[{", '[{"metric": "loss"}]'])
def test_a_damaged_file_of_results_is_moved_aside(loads, tmp_path, capfd, text):
    path = tmp_path / "results.json"
    for number in (0, 1):
        path.write_text(text)
        assert command.run(EvalConfig(run=tmp_path)) == 0
        said = capfd.readouterr().err
        assert said.count("\n") == 1
        assert f"{path} is damaged: " in said
        assert f"it is now results.json.damaged-{number}" in said
        assert (tmp_path / f"results.json.damaged-{number}").read_text() == text
        assert {row["checkpoint_step"] for row in read_results(path)} == {20}


def test_a_file_of_results_that_cannot_be_read_stays(loads, tmp_path, capfd):
    (tmp_path / "results.json").mkdir()
    assert command.run(EvalConfig(run=tmp_path)) == 0
    said = capfd.readouterr().err
    assert "the results are not saved: cannot read " in said and said.count("\n") == 1


def test_fewer_examples_can_be_asked_for(loads, tmp_path):
    rows = evaluate_run(EvalConfig(run=tmp_path, examples=2, batch_size=1))
    counts = [row["value"] for row in rows if row["metric"] == "sequence_accuracy"]
    assert len(counts) == 2


def test_other_lengths_can_be_asked_for(loads, tmp_path, capsys):
    config = EvalConfig(run=tmp_path, lengths=(16, 24), examples=4)
    assert command.run(config) == 0
    rows = read_results(tmp_path / "results.json")
    assert {row["setting"]["length"] for row in rows} == {16, 24}
    assert "2 pairs, 24 tokens" in capsys.readouterr().out


def test_rows_can_be_read_again(loads, tmp_path, capsys):
    config = EvalConfig(run=tmp_path, repeat_context=3, examples=4)
    assert command.run(config) == 0
    rows = read_results(tmp_path / "results.json")
    assert {row["setting"]["length"] for row in rows} == {48}
    assert {row["setting"]["repeat_context"] for row in rows} == {3}
    assert "read 3 times" in capsys.readouterr().out


def test_sizes_are_read_from_words(loads, tmp_path):
    words = ["--sizes", "4:16,16:4", "--json"]
    config = parse(EvalConfig, [str(tmp_path), *words], command="eval")
    assert config.sizes == ((4, 16), (16, 4))
    with pytest.raises(MemzooError, match="mqar has no field 'sizes'; known: filler"):
        evaluate_run(config)


def test_text_is_shown_by_context():
    base = {"layer": "a", "task": "text", "checkpoint_step": 1, "parameters": 5}
    rows = [
        base | {"setting": s, "metric": m, "value": v, "chance": None}
        for m, v in (("bits_per_byte", 2.5), ("accuracy", 0.5))
        for s in ({"length": 9}, {"length": 9, "context_from": 1, "context_to": 8})
    ]
    out = io.StringIO()
    print_results(rows, Console(file=out, width=80))
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert ["all,", "9", "tokens", "2.5000", "0.5000"] in lines
    assert ["context", "1", "to", "8", "2.5000", "0.5000"] in lines
    assert "chance" not in out.getvalue()


def test_a_run_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="is not a run"):
        evaluate_run(EvalConfig(run=tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"examples": 0}, "examples is 0; give 1 or more"),
        ({"examples": 2**31}, "examples is 2147483648; give a number below 2"),
        ({"repeat_context": 0}, "repeat_context is 0; give 1 or more"),
        ({"batch_size": -1}, "batch_size is -1; give 1 or more"),
        (
            {"lengths": (16,), "batch_size": 2},
            "batch_size is 2; leave it out, lengths set it",
        ),
        ({"checkpoint": -1}, "checkpoint is -1; give 0 or more"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        EvalConfig(run=tmp_path, **fields)
