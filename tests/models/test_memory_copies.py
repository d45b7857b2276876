"""Copies of a memory: per-memory maps are stacked, all else is shared."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.delta_net import DeltaNetConfig
from memzoo.models.gated_delta_net import GatedDeltaNetConfig
from memzoo.models.interface import Layout
from memzoo.models.linear_attention import LinearAttentionConfig
from memzoo.models.mamba2 import Mamba2Config
from memzoo.models.memory_copies import (
    inputs_of_copies,
    inputs_of_slots,
    one_copy,
    own_maps,
    own_tails,
    query_of_copies,
    spread_tails,
    stack_copies,
    state_for,
    tail_axes,
    with_own_tails,
)
from memzoo.models.retnet import RetNetConfig

WIDTH, BATCH, TIME, COPIES = 8, 2, 7, 3
SLOW = {"marks": pytest.mark.slow}
CONFIGS = [
    LinearAttentionConfig(num_heads=2),
    pytest.param(RetNetConfig(num_heads=2), **SLOW),
    pytest.param(RetNetConfig(num_heads=2, convolution_size=3), **SLOW),
    pytest.param(Mamba2Config(head_size=4, state_size=5), **SLOW),
    Mamba2Config(head_size=4, state_size=5, convolution_size=0),
    pytest.param(DeltaNetConfig(num_heads=2), **SLOW),
    GatedDeltaNetConfig(num_heads=2, value_heads=4),
]


def _layers(config):
    rngs = nnx.Rngs(0)
    return [
        config.build(WIDTH, rngs, layer_index=0, depth=1) for _ in range(COPIES + 1)
    ]


def _paths(layer):
    leaves = nnx.to_flat_state(nnx.state(layer, nnx.Param))
    return {"/".join(map(str, path)): leaf[...] for path, leaf in leaves}


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_inputs_of_copies_are_those_of_each(config):
    layers = _layers(config)
    separate = [_paths(layer) for layer in layers]
    stacked = stack_copies(layers[:COPIES])
    own = {
        path for path, a in _paths(stacked).items() if a.ndim > separate[0][path].ndim
    }
    names = {part for path in own for part in path.split("/")}
    assert {"key", "value"} < names
    assert not names & {"query", "read_out", "log_a", "skip"}

    # All are equal to the first, except their per-memory maps.
    alone = [one_copy(layers[0], own_maps(layer)) for layer in layers]
    for layer, mine in zip(alone, separate, strict=True):
        for path, a in _paths(layer).items():
            wanted = mine if path in own else separate[0]
            np.testing.assert_array_equal(a, wanted[path])

    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((BATCH, TIME, WIDTH)), jnp.float32)
    empty = layers[0].init_state(BATCH, 0)
    tails = jax.tree.map(
        lambda a: jnp.asarray(rng.standard_normal(a.shape), jnp.float32),
        spread_tails(layers[0], empty.tails, COPIES),
    )
    layout = Layout(reset=jnp.zeros((BATCH, TIME), bool).at[0, 3].set(True))
    axes = tail_axes(layers[0], tails)

    def mine(tail, axis, index):
        return tail if axis is None else jnp.take(tail, index, axis=axis)

    @jax.jit
    def together_and_alone(x, tails):
        found = inputs_of_copies(stacked, x, tails, empty.position, layout)
        wanted = []
        for index, layer in enumerate(alone[:COPIES]):
            before = [mine(*pair, index) for pair in zip(tails, axes, strict=True)]
            state = state_for(type(tails)(*before) if tails else (), empty.position)
            wanted.append(layer.inputs(x, state, layout))
        return found, wanted

    (inputs, after), separately = together_and_alone(x, tails)
    for index, (wanted, last) in enumerate(separately):
        near = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
        near(inputs.query, wanted.query)
        found = jax.tree.map(lambda a, i=index: a[:, i], inputs.with_query(None))
        jax.tree.map(near, found, wanted.with_query(None))
        for tail, axis, a in zip(after, axes, last, strict=True):
            found = mine(tail, axis, index)
            np.testing.assert_allclose(found, a, rtol=1e-5, atol=1e-6)


def test_tails_of_queries_are_held_once():
    layer = GatedDeltaNetConfig(num_heads=2).build(
        WIDTH, nnx.Rngs(0), layer_index=0, depth=1
    )
    one = layer.init_tails(BATCH)
    tails = spread_tails(layer, one, COPIES)
    assert tails.query.shape == (BATCH, 3, WIDTH)
    assert tails.key.shape == (BATCH, COPIES, 3, WIDTH)
    mine = own_tails(layer, one._replace(key=one.key + 1))
    assert [tail.shape for tail in mine] == [(BATCH, 3, WIDTH), (BATCH, 3, 2 * WIDTH)]
    both = with_own_tails(layer, tails, mine)
    np.testing.assert_array_equal(both.key, 1)
    np.testing.assert_array_equal(both.query, 0)


def test_tails_without_names_are_all_a_copys_own():
    layer = GatedDeltaNetConfig(num_heads=2).build(
        WIDTH, nnx.Rngs(0), layer_index=0, depth=1
    )
    tails = (jnp.zeros((BATCH, 3, 4)),)
    assert tail_axes(layer, tails) == (1,)
    assert spread_tails(layer, tails, COPIES)[0].shape == (BATCH, COPIES, 3, 4)
    assert with_own_tails(layer, tails, own_tails(layer, tails)) == tails


def test_own_maps_keep_the_names_of_the_layer():
    layer = RetNetConfig(num_heads=2).build(WIDTH, nnx.Rngs(0), layer_index=0, depth=1)
    maps = own_maps(layer)
    assert set(_paths(maps)) == {"key/kernel", "value/kernel"}
    found = maps.at(("key", "kernel"))
    np.testing.assert_array_equal(found[...], layer.key.kernel[...])


@pytest.mark.parametrize(
    "config",
    [
        RetNetConfig(num_heads=2),
        Mamba2Config(head_size=4, state_size=5, convolution_size=0),
        GatedDeltaNetConfig(num_heads=2, convolution_size=0),
    ],
    ids=lambda config: type(config).__name__,
)
def test_inputs_of_slots_are_those_of_their_tokens_and_copies(config):
    stacked = stack_copies(_layers(config)[:COPIES])
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((BATCH, TIME, WIDTH)), jnp.float32)
    start = jnp.array([0, 5], jnp.int32)
    everywhere, _ = inputs_of_copies(stacked, x, (), start, Layout())
    query = query_of_copies(stacked, x, start, Layout())
    np.testing.assert_allclose(query, everywhere.query, rtol=1e-5, atol=1e-6)

    which = jnp.array([[2, 0], [1, 1]], jnp.int32)
    token = rng.integers(0, TIME, (BATCH, 6))
    row = np.arange(BATCH)[:, None]
    place = jnp.asarray(token + np.asarray(start)[:, None], jnp.int32)
    found = inputs_of_slots(stacked, x[row, token], place, which)
    assert found.tokens.query is None
    copy = np.repeat(which, 3, axis=1)
    wanted = jax.tree.map(lambda a: a[row, copy, token], everywhere.with_query(None))
    near = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(near, found, wanted)
