"""Reads through features, apart from the layers that make them."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from memzoo.models.based import BasedConfig
from memzoo.models.ops.feature_maps import taylor


def test_reading_alone_maps_the_query_and_sums_are_divided_at_the_end(subject):
    config = BasedConfig(num_heads=2, feature_size=3)
    layer, params, x = subject(config)
    rng = np.random.default_rng(0)
    memory = jnp.asarray(rng.uniform(size=(2, 2, 10, 5)), jnp.float32)
    query = jnp.asarray(rng.standard_normal((2, 11, 2, 3)), jnp.float32)
    read = layer.read(query, memory)
    wanted = np.einsum("bthf,bhfv->bthv", taylor(query), memory)
    np.testing.assert_allclose(read, wanted, rtol=1e-5)
    mean = wanted[..., :-1] / wanted[..., -1:]
    y = mean.reshape(2, 11, 8) @ params["read_out/projection/kernel"]
    np.testing.assert_allclose(layer.output(read, x), y, rtol=1e-4, atol=1e-5)


def test_without_a_write_the_output_is_zero():
    layer = BasedConfig(num_heads=2).build(8, nnx.Rngs(0), layer_index=0, depth=1)
    read = jnp.zeros((1, 2, 2, 5))
    np.testing.assert_array_equal(layer.output(read, jnp.zeros((1, 2, 8))), 0)
