"""Titans in published sizes: unchanged, as large as they claim, and compilable."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from memzoo.configs.presets.titans import HEADS, PRESETS, SIZES, layer_of
from memzoo.configs.serialise import from_json, to_json
from memzoo.data.batch import Batch
from memzoo.describe import describe
from memzoo.models.language_model import abstract_model, num_parameters
from memzoo.train.program import make_program
from memzoo.train.sharding import make_mesh

GOLDEN = Path(__file__).parent / "golden"
KINDS = ("lmm", "mac", "mag", "mal")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_as_they_were(name):
    """A changed default shows as a difference. `to_json` makes the new file."""
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    config = PRESETS[name]()
    assert to_json(config) == golden
    assert from_json(golden) == config
    assert config.name == name
    assert (PRESETS[name].__doc__ or "").startswith(f"memzoo train {name}")
    assert config.batch_size * config.task.length == 2**19


def layer_parameters(kind, d):
    """Return the numbers in a layer of width d, including persistent tokens."""
    size = d // HEADS
    convolutions, gates = 3 * 4 * d, 3 * HEADS * (d + 1)
    weights = HEADS * 2 * size * 4 * size
    memory = 4 * d**2 + convolutions + gates + weights + size
    if kind == "lmm":
        return memory + d**2 + 4 * d
    if kind == "mac":
        retrieval = 2 * d**2 + size
        return memory + 4 * d**2 + retrieval + 4 * d + 2 * d
    attention = 4 * d**2 + 2 * 4 * d
    norms = {"mag": 2 * d, "mal": d}[kind]
    return memory + 4 * d + attention + norms


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_parameters_by_formula(kind, size):
    config = PRESETS[f"text-titans-{kind}-{size}"]().model
    d = config.width
    block = layer_parameters(kind, d) + 2 * d + 3 * d * config.mlp_width
    wanted = SIZES[size].depth * block + 32000 * d + d
    assert num_parameters(abstract_model(config)) == wanted
    assert abs(wanted / (int(size[:-1]) * 1e6) - 1) < 0.03


def test_sizes_differ_in_their_numbers_alone():
    for name, make in PRESETS.items():
        (group,) = make().model.pattern
        kind, size = name.split("-")[-2:]
        assert group.layers == (layer_of(kind),)
        assert (make().model.width, group.repeats) == SIZES[size][:2]


@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_are_described(kind):
    config = PRESETS[f"text-titans-{kind}-760m"]()
    said = describe(config)
    # Parameters, gradients and the two moments of AdamW.
    assert said["memory_bytes"] > 16 * said["parameters"] > 16 * 737e6
    assert said["blocks"][0]["state_growth"] == (
        "constant" if kind in ("lmm", "mac") else "bounded"
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_they_compile_ahead_of_time(kind, size):
    """Compile the training step for the rows of one gradient; nothing is allocated."""
    config = PRESETS[f"text-titans-{kind}-{size}"]()
    rows = config.batch_size // config.gradient_accumulation
    config = dataclasses.replace(config, batch_size=rows, gradient_accumulation=1)

    def every_token(dtype):
        return jax.ShapeDtypeStruct((rows, config.task.length), dtype)

    batch = Batch(
        tokens=every_token(jnp.int32),
        targets=every_token(jnp.int32),
        target_positions=None,
        target_weights=every_token(jnp.float32),
        reset=every_token(bool),
        valid=every_token(bool),
    )
    mesh = make_mesh(dataclasses.replace(config.mesh, data=1))
    with jax.set_mesh(mesh):
        program = make_program(config, mesh)
        step = program.step
        lowered = step.compiled.lower(program.specs, batch, step.numbers)
        found = lowered.compile().memory_analysis()
    parameters = num_parameters(abstract_model(config.model))
    assert found.argument_size_in_bytes > 3 * 4 * parameters
