"""The long-term memory as a layer: gates, initial memory and warnings."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.associative_memory import AssociativeState
from memzoo.models.interface import Layout, SequenceInfo, state_bytes
from memzoo.models.ops.neural_memory import NeuralTokens, neural_memory_recurrent
from memzoo.models.titans_lmm import TitansLMMConfig
from memzoo.testing import check_layer

CONFIG = TitansLMMConfig(
    num_heads=2,
    memory_expansion=2,
    update_every=4,
    max_learning_rate=0.5,
    persistent_tokens=0,
)


def build(**fields):
    config = dataclasses.replace(CONFIG, **fields)
    return config.build(16, nnx.Rngs(0), layer_index=0, depth=2)


def inputs_of(layer, x):
    state = layer.init_state(x.shape[0], 0)
    return jax.jit(lambda x: layer.inputs(x, state, Layout())[0])(x)


def test_gates_lie_where_the_paper_has_them():
    layer = build(max_learning_rate=0.3)
    x = 10 * jax.random.normal(jax.random.key(0), (2, 5, 16))
    inputs = inputs_of(layer, x)
    rate, momentum, forget = inputs.tokens.gates[:3]
    assert 0 <= rate.min() <= rate.max() <= 0.3
    assert 0 <= momentum.min() <= momentum.max() <= 1
    assert 0 <= forget.min() <= forget.max() <= 1
    assert forget.mean() < 0.2
    for x in (inputs.query, inputs.tokens.key):
        np.testing.assert_allclose(jnp.linalg.norm(x, axis=-1), 1.0, rtol=1e-3)


@pytest.mark.parametrize("gate", ["momentum", "forget"])
def test_a_gate_can_be_switched_off(gate):
    layer = build(**{gate: False})
    inputs = inputs_of(layer, jnp.ones((1, 2, 16)))
    assert getattr(inputs.tokens.gates, gate) is None
    assert (layer.init_state(1, 0).memory.momentum is None) == (gate == "momentum")


def test_a_new_memory_has_read_the_persistent_tokens():
    layer = build(persistent_tokens=4)
    tokens = layer.persistent[...]
    plain = build()
    memory = layer._blank(1)
    state = AssociativeState(memory, layer.init_tails(1), jnp.zeros((1,), jnp.int32))

    @jax.jit
    def read(tokens):
        inputs, _ = layer.inputs(tokens[None], state, Layout())
        return layer.write_and_read(inputs, memory, None)[1]

    after = read(tokens)
    new = layer.init_memory(3)
    for name, weight in after.weights.items():
        np.testing.assert_allclose(
            new.weights[name][2], weight[0], rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(new.anchor[name][2], weight[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            new.momentum[name][2], after.momentum[name][0], rtol=1e-5, atol=1e-6
        )
    np.testing.assert_array_equal(new.position, [0, 0, 0])
    blank, first = plain.init_memory(1), plain.initial["kernel_0"][...]
    np.testing.assert_array_equal(blank.weights["kernel_0"][0], first)


def test_the_state_is_weights_momentum_and_anchor():
    """Three times 2 x 16 x 8 x 2 numbers per head, and three tails of three tokens."""
    bytes_ = state_bytes(build(), 1000)
    assert bytes_ == 4 * (3 * 2 * (8 * 16 + 16 * 8) + 3 * 3 * 16)
    alone = state_bytes(build(update_every=1, momentum=False), 1000)
    assert alone == 4 * (2 * (8 * 16 + 16 * 8) + 3 * 3 * 16)


def test_a_read_writes_nothing_and_finds_what_was_written():
    layer = build(num_heads=1, memory_depth=1, persistent_tokens=0, momentum=False)
    x = jax.random.normal(jax.random.key(0), (1, 4, 16))
    inputs = inputs_of(layer, x)
    _, memory = jax.jit(partial(layer.write_and_read, reset=None))(
        inputs, layer.init_memory(1)
    )
    read = layer.read(inputs.tokens.key, memory)
    before = layer.read(inputs.tokens.key, layer.init_memory(1))
    off = [np.square(np.asarray(r - inputs.tokens.value)).sum() for r in (before, read)]
    assert off[1] < off[0]


@pytest.mark.parametrize(
    ("fields", "step"),
    [
        ({}, 2 * 0.5 * 4),
        ({"loss": "half", "max_learning_rate": 0.1}, 0.4),
        ({"loss_window": 3}, 12.0),
        ({"scale_by_place": True}, 2 * 0.5 * (1 + 1 / 2 + 1 / 3 + 1 / 4)),
    ],
)
def test_the_step_that_repeated_keys_take(fields, step):
    config = dataclasses.replace(CONFIG, **fields)
    assert config.step_of_repeated_keys == pytest.approx(step)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"update_every": 0}, "update_every is 0; give a number above 0"),
        ({"memory_depth": 0}, "memory_depth is 0; give a number above 0"),
        ({"max_learning_rate": 0.0}, "max_learning_rate is 0.0; give a number above 0"),
        ({"clip": -1.0}, "clip is -1.0; give a number above 0"),
        ({"persistent_tokens": -1}, "persistent_tokens is -1; give 0"),
        ({"convolution_size": 1}, "convolution_size is 1; give 0"),
    ],
)
def test_what_cannot_work_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(CONFIG, **fields)


def read_behind(layer, x, length):
    """Write the encoded first `length` tokens one by one, then all of x."""
    inputs = inputs_of(layer, x)
    keys, values = layer.encoder(x, Layout())
    unit = keys / jnp.sqrt(jnp.sum(keys**2, axis=-1, keepdims=True) + 1e-6)
    streams = [
        (inputs.query, inputs.query),
        (unit, inputs.tokens.key),
        (values, inputs.tokens.value),
    ]
    q, k, v = (jnp.concatenate([a[:, :length], b], axis=1) for a, b in streams)
    gates = jax.tree.map(
        lambda gate: jnp.concatenate([gate[:, :length], gate], axis=1),
        inputs.tokens.gates,
    )
    read, memory = neural_memory_recurrent(
        NeuralTokens(q, k, v, gates), layer.init_memory(1),
        network=layer.network, rule=layer.write_rule,
    )  # fmt: skip
    return layer.output(read[:, length:], x), memory


@pytest.mark.parametrize("packed", [False, True])
def test_a_prefix_is_read_as_tokens_before_the_first(packed):
    layer = build(prefix=True, chunk_size=4)
    x = jax.random.normal(jax.random.key(0), (3, 9, 16))
    lengths = (0, 3, 9)
    prefix = jnp.arange(9)[None, :] < jnp.array(lengths)[:, None]
    reset = jnp.zeros((3, 9), bool).at[:, 0].set(True) if packed else None
    run = jax.jit(lambda x, s: layer(x, s, SequenceInfo(reset=reset, prefix=prefix)))
    for slots in (0, 16):
        y, state = run(x, layer.init_state(3, slots))
        for row, length in enumerate(lengths):
            expected, memory = read_behind(layer, x[row : row + 1], length)
            np.testing.assert_allclose(y[row], expected[0], rtol=1e-3, atol=1e-5)
            for name, weight in memory.weights.items():
                np.testing.assert_allclose(
                    state.memory.weights[name][row], weight[0], rtol=1e-3, atol=1e-5
                )
        np.testing.assert_array_equal(state.position, [9, 9, 9])


def test_without_the_option_a_prefix_is_refused():
    layer, x = build(), jnp.ones((1, 4, 16))
    with pytest.raises(ValueError, match="TitansLMM does not accept a prefix; drop"):
        layer(x, layer.init_state(1, 0), SequenceInfo(prefix=jnp.ones((1, 4), bool)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"prefix": True},
        {"prefix": True, "loss_window": 3, "momentum": False, "persistent_tokens": 0},
        {"prefix": True, "keep_row_norms": True, "read": "before"},
    ],
    ids=str,
)
def test_variants_with_a_prefix_obey_the_laws(options):
    check_layer(dataclasses.replace(CONFIG, **options), width=8)
