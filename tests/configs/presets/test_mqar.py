"""The recall presets: unchanged, buildable, and comparable."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.configs.presets.mqar import (
    PRESETS,
    comparable_layer,
    mqar_experiment,
    with_window,
)
from memzoo.configs.serialise import to_json
from memzoo.data.mqar import MqarConfig
from memzoo.models import LAYERS
from memzoo.models.interface import SequenceInfo, state_bytes
from memzoo.models.language_model import abstract_model, num_parameters

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_as_they_were(name):
    """A changed default shows as a difference. `to_json` makes the new file."""
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    assert to_json(PRESETS[name]()) == golden


@pytest.mark.parametrize("name", PRESETS)
def test_presets_build_and_their_batches_fit(name):
    config = PRESETS[name]()
    assert config.name == name
    assert (PRESETS[name].__doc__ or "").startswith(f"memzoo train {name}")
    made = config.task.build("train").examples(np.arange(2))
    batch = jax.tree.map(jnp.asarray, made)
    assert batch.tokens.max() < config.model.vocab_size

    def loss():
        model = config.model.build(nnx.Rngs(0))
        return model.loss_sums(
            batch.tokens,
            batch.targets,
            target_positions=batch.target_positions,
            target_weights=batch.target_weights,
            info=SequenceInfo(batch.reset, batch.valid, batch.prefix),
        )

    assert jax.eval_shape(loss).cross_entropy.shape == ()


def test_every_layer_has_a_preset():
    assert len(PRESETS) == len(LAYERS)
    layers = {type(make().model.pattern[0].layers[0]) for make in PRESETS.values()}
    assert layers == set(LAYERS.values())


@pytest.mark.parametrize("heads", [1, 4])
def test_comparable_layers_have_memories_of_one_size(heads):
    """Each block has width x width / heads numbers, and three convolutions of 4
    taps.
    """
    sizes = {}
    for name in ("delta_net", "gated_delta_net", "retnet"):
        layer = comparable_layer(name, 64, heads)
        built = nnx.eval_shape(
            lambda layer=layer: layer.build(64, nnx.Rngs(0), layer_index=0, depth=2)
        )
        sizes[name] = state_bytes(built, 64)
    memory = heads * (64 // heads) ** 2
    tails = 3 * 3 * 64
    assert sizes["delta_net"] == sizes["gated_delta_net"] == 4 * (memory + tails)
    assert sizes["retnet"] >= 4 * memory


@pytest.mark.parametrize("name", ["gated_delta_net", "retnet", "mamba2"])
def test_comparable_layers_have_no_output_gate(name):
    assert not comparable_layer(name, 64).output_gate


@pytest.mark.parametrize(("width", "size", "features"), [(64, 10, 66), (16, 4, 15)])
def test_taylor_features_are_about_as_many_as_keys_have_numbers(width, size, features):
    layer = comparable_layer("prefix_linear_attention", width)
    built = nnx.eval_shape(
        lambda: layer.build(width, nnx.Rngs(0), layer_index=0, depth=2)
    )
    tails = 3 * (2 * size + width)
    assert state_bytes(built, 64) == 4 * (features * (width + 1) + tails)


def test_experiments_take_their_vocabulary_from_the_task():
    task = MqarConfig(vocab_size=256, length=32, num_pairs=4)
    layer = comparable_layer("attention", 32)
    config = mqar_experiment(layer, "x", task=task, width=32, depth=3, steps=9)
    assert (config.model.vocab_size, config.steps) == (256, 9)
    assert config.model.stack.depth == 3
    assert num_parameters(abstract_model(config.model)) > 256 * 32


def test_unknown_fields_are_left_out():
    layer = comparable_layer("attention", 64)
    assert "expand" not in {field.name for field in dataclasses.fields(layer)}


@pytest.mark.parametrize("name", ["titans_mac", "titans_mag", "titans_mal"])
def test_layers_inside_a_layer_are_comparable_too(name):
    layer = comparable_layer(name, 64, 2)
    memory = layer.memory
    assert (memory.num_heads, memory.convolution_size) == (2, 4)
    assert (memory.memory_depth, memory.output_gate) == (1, False)
    assert memory.persistent_tokens == type(layer)().memory.persistent_tokens
    # Two of them put the memory in series with attention.
    assert memory.clip == (None if name == "titans_mag" else 1.0)
    if name != "titans_mac":
        attention = layer.attention
        assert (attention.num_heads, attention.convolution_size) == (2, 4)
        assert attention.persistent_tokens == 4


def test_windows_are_set_wherever_they_are():
    segmented = with_window(comparable_layer("titans_mac", 64), 5)
    assert (segmented.segment_size, segmented.memory.update_every) == (5, 5)
    longer = with_window(comparable_layer("titans_mac", 64), 50)
    assert (longer.segment_size, longer.memory.update_every) == (50, 16)
    assert with_window(comparable_layer("titans_mal", 64), 5).attention.window == 5
    window = comparable_layer("sliding_window_attention", 64)
    assert with_window(window, 5).window == 5
    attention = comparable_layer("attention", 64)
    assert with_window(attention, 5) == attention
