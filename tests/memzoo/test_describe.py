"""`memzoo describe`: compare with counts by hand; nothing is allocated."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from memzoo.configs.experiment import ExperimentConfig
from memzoo.configs.presets import PRESETS
from memzoo.data.mqar import MqarConfig
from memzoo.data.text import FolderConfig
from memzoo.describe import (
    DescribeOptions,
    describe,
    flops_a_token,
    show_description,
    warnings,
)
from memzoo.models.attention import AttentionConfig
from memzoo.models.block import Group
from memzoo.models.language_model import LanguageModelConfig
from memzoo.models.linear_attention import LinearAttentionConfig
from memzoo.models.mixture_of_memories import MixtureOfMemoriesConfig
from memzoo.models.titans_lmm import TitansLMMConfig
from memzoo.models.titans_mac import TitansMACConfig
from memzoo.models.titans_mag import TitansMAGConfig
from memzoo.train.program import make_program
from memzoo.train.sharding import make_mesh

WIDTH, HEADS, TAPS, MLP, VOCABULARY, LENGTH = 24, 3, 4, 40, 64, 32
SIZE = WIDTH // HEADS


def experiment(*layers, repeats=2, width=WIDTH, mlp_width=MLP, **fields):
    return ExperimentConfig(
        name="small",
        model=LanguageModelConfig(
            vocab_size=VOCABULARY,
            width=width,
            mlp_width=mlp_width,
            pattern=(Group(layers=layers, repeats=repeats),),
        ),
        task=MqarConfig(vocab_size=VOCABULARY, length=LENGTH, num_pairs=4),
        **fields,
    )


LINEAR = LinearAttentionConfig(num_heads=HEADS, convolution_size=TAPS)
ATTENTION = AttentionConfig(num_heads=HEADS, head_size=SIZE, convolution_size=0)


def test_parameters_and_state_by_hand():
    said = describe(experiment(LINEAR, ATTENTION, steps=7, batch_size=5))
    mlp = WIDTH + 3 * WIDTH * MLP
    linear = WIDTH + 4 * WIDTH**2 + 3 * TAPS * WIDTH + mlp
    attention = WIDTH + 4 * WIDTH**2 + mlp
    assert said["parameters"] == VOCABULARY * WIDTH + 2 * (linear + attention) + WIDTH
    first, second = said["blocks"]
    assert first["layer"] == "linear_attention" and first["repeats"] == 2
    assert first["parameters"] == 2 * linear
    assert second["parameters"] == 2 * attention
    # A row of the memory is the sum of the keys; tails are float32.
    memory = HEADS * SIZE * (SIZE + 1) + 3 * (TAPS - 1) * WIDTH
    assert first["state_bytes"] == 2 * 4 * memory
    assert first["state_growth"] == "constant"
    assert second["state_growth"] == "linear"
    assert second["state_bytes"] >= 2 * 4 * 2 * WIDTH * LENGTH
    assert said["state_bytes"] == first["state_bytes"] + second["state_bytes"]
    assert (said["tokens_a_step"], said["steps"]) == (5 * LENGTH, 7)


def test_flops_by_hand():
    """Products are exact; elementwise work is between 0 and 40 per channel."""
    layer = dataclasses.replace(LINEAR, convolution_size=0)
    model = experiment(layer, mlp_width=0).model
    projections = 2 * 4 * WIDTH**2
    memory = HEADS * SIZE * (SIZE + 1)
    head = 2 * WIDTH * VOCABULARY
    least = 2 * (projections + 2 * memory) + head
    # The write is an outer product and a sum.
    most = 2 * (projections + 4 * memory + 40 * WIDTH) + head + 10 * WIDTH
    assert least < flops_a_token(model, LENGTH) < most


def test_flops_do_not_grow_with_length_unless_the_state_does():
    linear, attention = experiment(LINEAR).model, experiment(ATTENTION).model
    assert flops_a_token(linear, 64) == flops_a_token(linear, 4096)
    # Scores and values: two products of 2 * width for every token in the cache.
    more = flops_a_token(attention, 4096) - flops_a_token(attention, 64)
    keys = (4096 - 64) // 2
    assert 2 * 4 * WIDTH * keys <= more < 3 * 4 * WIDTH * keys


def test_a_model_too_large_for_the_machine_is_described():
    config = experiment(
        LinearAttentionConfig(num_heads=64),
        width=8192,
        mlp_width=4 * 8192,
        repeats=64,
        batch_size=512,
    )
    said = describe(config)
    assert said["parameters"] > 64 * 16 * 8192**2  # 69 billion
    assert said["memory_bytes"] > 16 * said["parameters"]


def test_less_is_kept_where_more_is_computed():
    config = experiment(LINEAR)
    whole = describe(config)["memory_bytes"]
    for changed in (
        dataclasses.replace(
            config, model=dataclasses.replace(config.model, remat="full")
        ),
        dataclasses.replace(config, gradient_accumulation=8),
    ):
        assert describe(changed)["memory_bytes"] < whole / 2


def test_missing_data_is_not_asked_for():
    config = experiment(LINEAR)
    model = dataclasses.replace(config.model, vocab_size=320)
    task = FolderConfig(path="/nowhere", length=LENGTH)
    said = describe(dataclasses.replace(config, model=model, task=task))
    assert said["length"] == LENGTH


def test_as_json_and_as_a_table(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    config = experiment(LINEAR)
    assert show_description(DescribeOptions(experiment=config, json=True)) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == describe(config)
    assert show_description(DescribeOptions(experiment=config)) == 0
    table = capsys.readouterr().out
    assert "linear_attention" in table and f"{said['parameters']:,}" in table


MEMORY = TitansLMMConfig(
    max_learning_rate=0.3,
    update_every=8,
    num_heads=HEADS,
    persistent_tokens=0,
    clip=None,
)


def test_a_memory_that_can_diverge_is_named():
    layers = (
        LINEAR,
        MEMORY,
        TitansMAGConfig(memory=MEMORY),
        TitansMACConfig(memory=MEMORY),
        MixtureOfMemoriesConfig(memory=MEMORY),
    )
    said = list(warnings(experiment(*layers).model))
    assert said[0] == (
        "pattern.0.layers.1 (titans_lmm) can diverge where keys repeat: learning rate "
        "0.3 over a window of 8 tokens makes a step of 4.8, above 2; lower "
        "max_learning_rate (to 0.12) or update_every, or set clip"
    )
    places = [line.split()[0] for line in said]
    inner = [f"pattern.0.layers.{i}.memory" for i in (2, 3, 4)]
    assert places == ["pattern.0.layers.1", *inner]


@pytest.mark.parametrize(
    "fields",
    [
        {"max_learning_rate": 0.12},
        {"update_every": 3},
        {"loss": "half", "update_every": 6},
        {"clip": 1.0},
        {"keep_row_norms": True},
    ],
)
def test_a_memory_that_cannot_diverge_is_not(fields):
    layer = dataclasses.replace(MEMORY, **fields)
    assert list(warnings(experiment(layer).model)) == []


def test_the_remedy_is_one():
    """Check that the recommended learning rate causes no warning."""
    for rate, window in ((0.1, 16), (1.0, 7), (0.9, 64), (0.37, 1000)):
        layer = dataclasses.replace(MEMORY, max_learning_rate=rate, update_every=window)
        (said,) = warnings(experiment(layer).model)
        lower = float(said.split("(to ")[1].split(")")[0])
        assert 0.9 * 2 / (2 * window) <= lower
        layer = dataclasses.replace(layer, max_learning_rate=lower)
        assert list(warnings(experiment(layer).model)) == []


def test_a_warning_is_one_line(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    config = experiment(MEMORY)
    assert show_description(DescribeOptions(experiment=config)) == 0
    (line,) = [
        line for line in capsys.readouterr().out.splitlines() if "warning" in line
    ]
    (said,) = warnings(config.model)
    assert line == f"warning: {said}"
    assert describe(config)["warnings"] == [said]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mqar-linear-attention", "text-attention"])
def test_memory_is_what_the_compiler_says(name):
    """The estimate is within a factor of two of XLA's count for the compiled step."""
    config = PRESETS[name]()
    mesh = make_mesh(dataclasses.replace(config.mesh, data=1))
    with jax.set_mesh(mesh):
        program = make_program(config, mesh)
        batch = config.task.build("validation").examples(np.arange(config.batch_size))
        step = program.step
        lowered = step.compiled.lower(program.specs, batch, step.numbers)
        found = lowered.compile().memory_analysis()
    measured = found.argument_size_in_bytes + found.temp_size_in_bytes
    assert 0.5 < describe(config)["memory_bytes"] / measured < 2
