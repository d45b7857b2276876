"""Rows of results.json."""

import dataclasses
import json

import jax
import pytest
from flax import nnx

from memzoo.configs.errors import MemzooError
from memzoo.configs.reading import ReadError
from memzoo.data.needle import NeedleConfig
from memzoo.evals.recall_config import RecallConfig
from memzoo.evals.results import (
    layer_name,
    read_results,
    result_rows,
    sizes,
    write_results,
)
from memzoo.models.block import Group
from memzoo.models.retnet import RetNetConfig

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


@pytest.mark.parametrize("text", ["", "[{]", "{}", '[{"value": 1}]'])
def test_a_file_without_rows_is_refused(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(
        MemzooError, match=r"results\.json holds no results .*delete"
    ):
        read_results(path)


def test_a_file_that_may_not_be_read_is_not_to_be_deleted(tmp_path, monkeypatch):
    def denied(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(tmp_path), "read_text", denied)
    with pytest.raises(ReadError, match=r"results.json: Permission denied; mend its"):
        read_results(tmp_path / "results.json")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(MemzooError, match="No such file"):
        read_results(tmp_path / "results.json")
