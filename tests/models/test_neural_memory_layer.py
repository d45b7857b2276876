"""Behaviour shared by layers whose memory is a network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.interface import Layout, Metric
from memzoo.models.neural_memory_layer import reporting_surprise
from memzoo.models.ops.neural_memory import surprise
from memzoo.models.ops.recurrence import select
from memzoo.models.titans_lmm import TitansLMMConfig
from memzoo.models.titans_mac import TitansMACConfig
from memzoo.models.ttt_linear import TTTLinearConfig


def build(**fields):
    config = TitansLMMConfig(
        num_heads=2, memory_expansion=1, update_every=2, persistent_tokens=0, **fields
    )
    return config.build(8, nnx.Rngs(0), layer_index=0, depth=2)


def test_rows_keep_the_norms_of_a_new_memory():
    """Check in both forms that row norms equal those of the learned initial weights."""
    layer = build(keep_row_norms=True, max_learning_rate=1.0, chunk_size=4)
    x = jax.random.normal(jax.random.key(0), (1, 6, 8))
    start = layer.init_state(1, 8)
    run = jax.jit(lambda x, state: layer.sequence(x, state, Layout()))
    token = jax.jit(layer.token)
    y, after = run(x, start)
    state, looped = start, []
    for t in range(6):
        o, state = token(x[:, t], state)
        looped.append(o)
    np.testing.assert_allclose(jnp.stack(looped, axis=1), y, rtol=1e-3, atol=1e-5)
    anchor = after.memory.anchor["kernel_0"]
    first = layer.initial["kernel_0"][...][None]
    norms = [np.linalg.norm(a, axis=-1) for a in (anchor, first)]
    np.testing.assert_allclose(*norms, rtol=1e-4)


def test_the_first_weights_keep_the_size_of_what_passes():
    config = TitansLMMConfig(num_heads=1, memory_expansion=4)
    layer = config.build(256, nnx.Rngs(0), layer_index=0, depth=2)
    weights = {name: weight[...][0] for name, weight in layer.initial.items()}
    x = jax.random.normal(jax.random.key(0), (64, 256))
    hidden = x @ weights["kernel_0"]
    assert abs(float(jnp.std(hidden)) - 1) < 0.1
    assert abs(float(jnp.std(hidden @ weights["kernel_1"])) - 0.1) < 0.02


def test_weights_alone_can_be_read():
    layer = build()
    memory = layer.init_memory(1)
    query = jax.random.normal(jax.random.key(0), (1, 3, 2, 4))
    read = layer.read(query, memory)
    np.testing.assert_array_equal(read, layer.read_weights(query, memory.weights))
    z = np.einsum("bthk,bhkf->bthf", query, memory.weights["kernel_0"])
    expected = np.einsum(
        "bthf,bhfv->bthv", np.asarray(jax.nn.gelu(z)), memory.weights["kernel_1"]
    )
    np.testing.assert_allclose(read, expected, rtol=1e-4, atol=1e-6)


def surprises(layer, x, layout=Layout()):  # noqa: B008
    """Return the surprise that the layer reports for each token, and its output."""
    state = layer.init_state(x.shape[0], 16)

    @nnx.jit
    def run(layer, x):
        y, _ = layer.sequence(x, state, layout)
        return y, nnx.to_pure_dict(nnx.pop(layer, Metric))

    y, said = run(layer, x)
    return y, said


@pytest.mark.parametrize(
    "config",
    [
        TitansLMMConfig(
            num_heads=2, memory_expansion=1, persistent_tokens=0, update_every=4
        ),
        TTTLinearConfig(num_heads=2, update_every=4),
        TitansLMMConfig(
            num_heads=2,
            memory_expansion=1,
            persistent_tokens=0,
            update_every=4,
            prefix=True,
        ),
    ],
)
def test_surprise_is_the_loss_of_the_memory_before_the_write(config):
    layer = reporting_surprise(config.build(8, nnx.Rngs(0), layer_index=0, depth=2))
    x = jax.random.normal(jax.random.key(0), (2, 7, 8))
    # If the layer accepts a prefix, one of two rows has a prefix of 3 tokens.
    prefix = jnp.array([[True] * 3 + [False] * 4, [False] * 7])
    layout = Layout(prefix=prefix if layer.accepts_prefix else None)
    _, said = surprises(layer, x, layout)
    state = layer.init_state(2, 16)
    inputs = jax.jit(lambda x: layer.inputs(x, state, Layout())[0])(x)

    @jax.jit
    def one(at, memory):
        loss = surprise(
            at.tokens.key[:, 0],
            at.tokens.value[:, 0],
            memory.weights,
            network=layer.network,
            slow=layer.slow_weights(),
        )
        return jnp.mean(loss, axis=-1), layer.write_and_read_token(at, memory)[1]

    def token(inputs, t):
        return jax.tree.map(lambda a: np.asarray(a)[:, t : t + 1], inputs)

    memory, expected = state.memory, []
    if layer.accepts_prefix:
        written = layer.prefix_inputs(x, inputs, layout)
        for t in range(3):
            memory = select(prefix[:, t], one(token(written, t), memory)[1], memory)
    for t in range(7):
        loss, memory = one(token(inputs, t), memory)
        expected.append(np.asarray(loss))
    np.testing.assert_allclose(
        said["surprise"], np.stack(expected, axis=1), rtol=1e-4, atol=1e-6
    )


def test_nothing_is_reported_unless_asked():
    layer = build()
    x = jax.random.normal(jax.random.key(0), (1, 5, 8))
    y, said = surprises(layer, x)
    assert said == {}
    again, _ = surprises(reporting_surprise(layer), x)
    np.testing.assert_allclose(again, y, rtol=1e-6)
    assert not layer.reports_surprise


def test_layers_that_hold_a_memory_pass_surprise_on():
    """MAC's memory begins inside a scan, anywhere in a segment."""
    memory = TitansLMMConfig(
        num_heads=1, memory_depth=1, update_every=2, persistent_tokens=0
    )
    config = TitansMACConfig(memory=memory, segment_size=4, num_heads=1)
    layer = reporting_surprise(config.build(8, nnx.Rngs(0), layer_index=0, depth=2))
    x = jax.random.normal(jax.random.key(0), (1, 10, 8))
    _, said = surprises(layer, x)
    assert said["surprise"].shape == (1, 10) and bool(jnp.all(said["surprise"] > 0))
    _, begun = surprises(layer, x[:, :6])
    np.testing.assert_allclose(begun["surprise"], said["surprise"][:, :6], rtol=1e-5)
