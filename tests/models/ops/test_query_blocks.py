"""Blocks of queries, and softmax over what is seen."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from memzoo.models.ops.query_blocks import fitting_block, map_blocks, masked_softmax


def test_blocks_equal_the_whole_and_are_padded():
    x = np.arange(14.0).reshape(2, 7)
    found = jax.jit(lambda x: map_blocks(lambda a: a**2, (x,), 3))(x)
    np.testing.assert_array_equal(found, x**2)


def test_a_softmax_over_nothing_is_zero_with_a_finite_gradient():
    logits = np.array([[1.0, -np.inf], [-np.inf, -np.inf]])

    @jax.jit
    @partial(jax.grad, has_aux=True)
    def slope(x):
        weight = masked_softmax(x, jnp.isfinite(logits))
        return jnp.sum(weight), weight

    gradient, weight = slope(jnp.asarray(logits))
    np.testing.assert_array_equal(weight, [[1, 0], [0, 0]])
    np.testing.assert_array_equal(gradient, np.zeros((2, 2)))


def test_a_block_has_at_least_one_query():
    assert [fitting_block(n) for n in (0, 2**21, 2**30)] == [2**23, 4, 1]
