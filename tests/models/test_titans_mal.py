"""Memory as a layer: attention reads the memory's output."""

import jax
import numpy as np
import pytest
from flax import nnx

from memzoo.models.interface import Layout
from memzoo.models.sliding_window_attention import SlidingWindowAttentionConfig
from memzoo.models.titans_lmm import TitansLMMConfig
from memzoo.models.titans_mal import TitansMALConfig


def run(layer, x, state):
    return jax.jit(lambda x, state: layer.sequence(x, state, Layout()))(x, state)


@pytest.mark.parametrize("residual", [True, False])
def test_attention_reads_the_memory(residual):
    config = TitansMALConfig(
        memory=TitansLMMConfig(
            num_heads=2, memory_depth=1, persistent_tokens=0, update_every=4
        ),
        attention=SlidingWindowAttentionConfig(num_heads=2, window=4),
        residual=residual,
    )
    layer = config.build(16, nnx.Rngs(0), layer_index=0, depth=2)
    x = jax.random.normal(jax.random.key(0), (1, 6, 16))
    start = layer.init_state(1, 6)
    o, state = run(layer, x, start)
    m, memory = run(layer.memory, x, start.memory)
    between = np.asarray(x + m if residual else m)
    square = np.mean(np.square(between), axis=-1, keepdims=True)
    normed = jax.numpy.asarray(between / np.sqrt(square + 1e-5))
    expected, attention = run(layer.attention, normed, start.attention)
    if residual:
        expected = expected + m
    np.testing.assert_allclose(o, expected, rtol=1e-4, atol=1e-6)
    for a, b in zip(
        jax.tree.leaves(state[:2]), jax.tree.leaves((memory, attention)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
