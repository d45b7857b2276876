"""Noise of a mixture's router: drawn in training with the key of the call."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from memzoo.models.gated_delta_net import GatedDeltaNetConfig
from memzoo.models.interface import SequenceInfo
from memzoo.models.mixture_of_memories import MixtureOfMemoriesConfig

WIDTH = 8
GATED = GatedDeltaNetConfig(num_heads=2, value_ratio=1, chunk_size=4)


def _undecided(noise, num_memories=4):
    """Return a mixture with a neutral router: ties go to the first memories."""
    config = MixtureOfMemoriesConfig(
        memory=GATED, num_memories=num_memories, top_k=1, router_noise=noise
    )
    layer = config.build(WIDTH, nnx.Rngs(0), layer_index=0, depth=1)
    kernel = layer.router.kernel
    kernel.set_value(jnp.zeros_like(kernel[...]))
    return layer


def _load(layer, key, time=500):
    x = jax.random.normal(jax.random.key(9), (2, time, WIDTH))
    graphdef, arrays = nnx.split(layer)

    @jax.jit
    def call(x, key):
        model = nnx.merge(graphdef, arrays)
        y, _ = model(x, model.init_state(2, 0), SequenceInfo(key=key))
        return y, model.load[...]

    return call(x, key)


def test_noise_of_the_router_is_drawn_by_the_key_and_only_by_it():
    layer = _undecided(0.5)
    still, load = _load(layer, None)
    np.testing.assert_array_equal(load, [1, 0, 0, 0])
    key = jax.random.key(3)
    y, load = _load(layer, key)
    # 1,000 tokens, each in one of four memories with the same probability.
    np.testing.assert_allclose(load, 0.25, atol=4.5 * np.sqrt(0.25 * 0.75 / 1000))
    assert not np.allclose(y, still)
    np.testing.assert_array_equal(_load(layer, key)[0], y)
    assert not np.allclose(_load(layer, jax.random.key(4))[0], y)


def test_without_noise_a_key_changes_nothing():
    layer = _undecided(0.0)
    np.testing.assert_array_equal(
        _load(layer, jax.random.key(3))[0], _load(layer, None)[0]
    )


def test_noise_has_the_standard_deviation_that_was_asked_for():
    """A memory preferred by d gets Phi(d / (noise sqrt(2))) of the tokens of two."""
    layer = _undecided(2.0, num_memories=2)
    layer.router.kernel.set_value(jnp.zeros((WIDTH, 2)).at[0, 0].set(1.0))
    x = jnp.ones((4, 500, WIDTH))
    graphdef, arrays = nnx.split(layer)

    @jax.jit
    def call(x, key):
        model = nnx.merge(graphdef, arrays)
        model(x, model.init_state(4, 0), SequenceInfo(key=key))
        return model.load[...]

    share = 0.6382  # Phi(1 / (2 sqrt(2)))
    found = call(x, jax.random.key(0))[0]
    assert abs(found - share) < 4.5 * np.sqrt(share * (1 - share) / 2000)
