"""Memory as a gate: the parts and their combination."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.interface import Layout
from memzoo.models.sliding_window_attention import SlidingWindowAttentionConfig
from memzoo.models.titans_lmm import TitansLMMConfig
from memzoo.models.titans_mag import TitansMAGConfig, windowed
from memzoo.models.titans_mal import TitansMALConfig
from memzoo.testing import check_layer

CONFIG = TitansMAGConfig(
    memory=TitansLMMConfig(
        num_heads=2, memory_depth=1, persistent_tokens=0, update_every=4
    ),
    attention=SlidingWindowAttentionConfig(num_heads=2, window=4, persistent_tokens=2),
)


def run(layer, x, state):
    return jax.jit(lambda x, state: layer.sequence(x, state, Layout()))(x, state)


def test_the_gate_is_a_product_of_two_normed_outputs():
    layer = CONFIG.build(16, nnx.Rngs(0), layer_index=0, depth=2)
    x = jax.random.normal(jax.random.key(0), (1, 6, 16))
    y, state = run(layer, x, layer.init_state(1, 6))
    start = layer.init_state(1, 6)
    attended, _ = run(layer.attention, x, start.attention)
    held, _ = run(layer.memory, x, start.memory)

    def norm(a):
        return a / np.sqrt(np.mean(np.square(a), axis=-1, keepdims=True) + 1e-5)

    gate = norm(np.asarray(held))
    expected = norm(np.asarray(attended)) * 0.5 * gate / (1 + np.exp(-gate))
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(state.position, [6])


def test_far_tokens_are_seen_through_the_memory_alone():
    layer = CONFIG.build(16, nnx.Rngs(0), layer_index=0, depth=2)
    x = jax.random.normal(jax.random.key(0), (1, 12, 16))
    start = layer.init_state(1, 12)
    other = x.at[:, 0].multiply(-1.0)
    far = [run(layer.attention, a, start.attention)[0] for a in (x, other)]
    np.testing.assert_array_equal(far[0][:, 4:], far[1][:, 4:])
    whole = [run(layer, a, start)[0] for a in (x, other)]
    assert np.abs(np.asarray(whole[0] - whole[1]))[:, -1].max() > 0


def test_a_new_document_is_a_new_layer():
    layer = CONFIG.build(16, nnx.Rngs(0), layer_index=0, depth=2)
    x = jax.random.normal(jax.random.key(0), (2, 5, 16))
    _, state = run(layer, x, layer.init_state(2, 8))
    fresh = layer.fresh_rows(state, jnp.array([True, False]))
    np.testing.assert_array_equal(fresh.position, [0, 5])
    kernel = fresh.memory.memory.weights["kernel_0"]
    expected = layer.memory.init_memory(2).weights["kernel_0"]
    np.testing.assert_allclose(kernel[0], expected[0], rtol=1e-6)
    layer.check_capacity(state, 100, "a layer")


def test_the_usual_attention_has_persistent_tokens():
    assert windowed().persistent_tokens == 4


def with_prefix(kind):
    memory = dataclasses.replace(CONFIG.memory, prefix=True)
    return kind(memory=memory, attention=CONFIG.attention)


@pytest.mark.parametrize("kind", [TitansMAGConfig, TitansMALConfig])
def test_the_memory_reads_a_prefix_and_attention_does_not(kind):
    layer = with_prefix(kind).build(16, nnx.Rngs(0), layer_index=0, depth=2)
    assert layer.accepts_prefix
    x = jax.random.normal(jax.random.key(0), (1, 6, 16))
    prefix = jnp.ones((1, 6), bool)

    @jax.jit
    def both(x):
        state = layer.init_state(1, 6)
        return [layer.sequence(x, state, Layout(prefix=p))[0] for p in (prefix, None)]

    first, second = both(x), both(x.at[:, 5].multiply(-1.0))
    assert np.abs(first[0][:, 0] - second[0][:, 0]).max() > 0
    np.testing.assert_array_equal(first[1][:, :5], second[1][:, :5])


@pytest.mark.slow
@pytest.mark.parametrize("kind", [TitansMAGConfig, TitansMALConfig])
def test_variants_with_a_prefix_obey_the_laws(kind):
    check_layer(with_prefix(kind), width=8)
