"""Rows of results.json."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import nnx

from memzoo.configs.reading import ReadError
from memzoo.data.needle import NeedleConfig
from memzoo.data.task import at_length
from memzoo.errors import NonFiniteError
from memzoo.evals import results
from memzoo.evals.evaluate import evaluate
from memzoo.evals.recall_config import RecallConfig
from memzoo.evals.results import (
    check_rows,
    layer_name,
    measured_rows,
    read_results,
    result_rows,
    sizes,
    write_results,
)
from memzoo.evals.tasks.mqar import MqarRecall
from memzoo.evals.tasks.needle import NeedleRecall
from memzoo.models.block import Group
from memzoo.models.retnet import RetNetConfig
from memzoo.train.manifest import DamagedError

TINY = RecallConfig(
    task=MqarRecall(num_pairs=(2,), length=16, vocab_size=32),
    layers=("attention",),
    width=(8,),
    learning_rates=(0.5,),
    seeds=(3,),
)
EXPERIMENT = TINY.experiment(TINY.jobs()[0])
MEASURED = [
    {"setting": {"num_pairs": 2}, "metric": "accuracy", "value": 0.5, "count": 9},
    {"setting": {"num_pairs": 2}, "metric": "loss", "value": 1.5, "count": 9},
]


def test_a_row_says_what_was_measured_where():
    first, second = result_rows(EXPERIMENT, MEASURED, 40)
    parameters, state = sizes(EXPERIMENT)
    assert first == {
        "layer": "attention",
        "task": "mqar",
        "setting": {"num_pairs": 2},
        "metric": "accuracy",
        "value": 0.5,
        "seed": 3,
        "parameters": parameters,
        "state_bytes": state,
        "checkpoint_step": 40,
        "learning_rate": 0.5,
        "chance": 0.5,
    }
    assert second["chance"] is None


def test_chance_is_that_of_the_task_where_no_setting_decides_it():
    needle = dataclasses.replace(EXPERIMENT, task=NeedleConfig(vocab_size=28))
    assert needle.model.vocab_size >= 28
    measured = [row | {"setting": {"length": 256}} for row in MEASURED]
    assert [r["chance"] for r in result_rows(needle, measured, 1)] == [0.2, None]


def test_sizes_are_those_of_the_built_model():
    model = EXPERIMENT.model.build(nnx.Rngs(0))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    state = model.init_state(1, EXPERIMENT.task.length)
    everything = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    positions = 2 * 4  # one int32 a block
    assert sizes(EXPERIMENT) == (parameters, everything - positions)


def test_a_pattern_of_several_layers_names_each_once():
    retnet = Group(layers=(RetNetConfig(num_heads=1),))
    pattern = (*EXPERIMENT.model.pattern, retnet, *EXPERIMENT.model.pattern)
    model = dataclasses.replace(EXPERIMENT.model, pattern=pattern)
    assert layer_name(dataclasses.replace(EXPERIMENT, model=model)) == (
        "attention+retnet"
    )


def test_rows_come_back_as_they_were_written(tmp_path):
    rows = result_rows(EXPERIMENT, MEASURED, 40)
    path = tmp_path / "new" / "results.json"
    write_results(path, rows)
    assert read_results(path) == rows
    assert json.loads(path.read_text()) == rows
    assert len(path.read_text().splitlines()) == len(rows) + 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("[{]", "it is not JSON: "),
        ("{}", "it is not a list of results"),
        ("[]", "it is not a list of results"),
        ("[[]]", "row 0 is not a JSON object"),
        ('["metric"]', "row 0 is not a JSON object"),
        ('[{"value": 1}]', "row 0 has no layer"),
    ],
)
def test_a_file_without_rows_is_damaged(tmp_path, text, message):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(DamagedError, match=f"^{message}"):
        read_results(path)


@pytest.mark.parametrize(
    "change",
    [
        {"value": None},
        {"value": "0.5"},
        {"value": True},
        {"setting": []},
        {"checkpoint_step": 1.5},
        {"chance": "x"},
        {"metric": 3},
    ],
)
def test_a_row_of_other_types_is_damaged(change):
    rows = result_rows(EXPERIMENT, MEASURED, 40)
    check_rows(rows)
    (name,) = change
    with pytest.raises(DamagedError, match=f"^{name} of row 1 is "):
        check_rows([rows[0], rows[1] | change])


def test_a_file_that_may_not_be_read_is_not_to_be_deleted(tmp_path, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(tmp_path), "read_bytes", denied)
    with pytest.raises(ReadError, match=r"results.json: Permission denied; fix its"):
        read_results(tmp_path / "results.json")


def test_what_cannot_be_read_is_not_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_results(tmp_path / "results.json")
    with pytest.raises(ReadError, match="Is a directory"):
        read_results(tmp_path)


NEEDLE = RecallConfig(
    task=NeedleRecall(length=32, vocab_size=32, lengths=(32,)),
    layers=("attention",),
    width=(8,),
)
NEEDLES = NEEDLE.experiment(NEEDLE.jobs()[0])


def read(model, length, **given):
    task = at_length(NEEDLES.task, length)
    experiment = dataclasses.replace(NEEDLES, task=task)
    asked = {"split": "test", "examples": 10, "step": 7} | given
    return measured_rows(model, experiment, **asked)


def test_rows_of_a_model_say_their_split(bigram):
    rows = read(bigram(32), 64)
    depths = {row["setting"]["depth"] for row in rows}
    assert depths == {0.0, 0.25, 0.5, 0.75, 1.0} and len(rows) == 3 * 5
    assert {row["setting"]["split"] for row in rows} == {"test"}
    assert {row["setting"]["length"] for row in rows} == {64}
    assert {row["checkpoint_step"] for row in rows} == {7}
    # The state is that of the rows that are read.
    assert rows[0]["state_bytes"] > sizes(NEEDLES)[1]
    rows = read(bigram(32), 64, split="validation")
    assert "split" not in rows[0]["setting"]


def test_the_length_that_is_not_finite_is_named(bigram):
    table = np.full((32, 32), np.nan, np.float32)
    with pytest.raises(NonFiniteError, match=r"^rows of 32 tokens: the loss of the ev"):
        read(bigram(table), 32)


def test_long_rows_are_computed_a_few_at_a_time(bigram, monkeypatch):
    asked = []

    def stand_in(model, task, *, split, examples, batch_size):
        asked.append((task.length, batch_size))
        return evaluate(model, task, split=split, examples=2, batch_size=2)

    monkeypatch.setattr(results, "evaluate", stand_in)
    monkeypatch.setattr(results, "TOKENS_AT_ONCE", 64)
    for length in (32, 64, 128):
        read(bigram(32), length)
    read(bigram(32), 32, batch_size=5)
    assert asked == [(32, 2), (64, 1), (128, 1), (32, 5)]
