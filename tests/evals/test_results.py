"""Rows of results.json."""

import dataclasses
import json

import jax
import pytest
from flax import nnx

from memzoo.configs.reading import ReadError
from memzoo.data.needle import NeedleConfig
from memzoo.evals.recall_config import RecallConfig
from memzoo.evals.results import (
    check_rows,
    layer_name,
    read_results,
    result_rows,
    sizes,
    write_results,
)
from memzoo.models.block import Group
from memzoo.models.retnet import RetNetConfig
from memzoo.train.manifest import DamagedError

TINY = RecallConfig(
    layers=("attention",),
    num_pairs=(2,),
    length=16,
    vocab_size=32,
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
        ("[{]", "it is no JSON: "),
        ("{}", "it holds no list of results"),
        ("[]", "it holds no list of results"),
        ("[[]]", "row 0 is no JSON object"),
        ('["metric"]', "row 0 is no JSON object"),
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
    with pytest.raises(ReadError, match=r"results.json: Permission denied; mend its"):
        read_results(tmp_path / "results.json")


def test_what_cannot_be_read_is_not_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_results(tmp_path / "results.json")
    with pytest.raises(ReadError, match="Is a directory"):
        read_results(tmp_path)
