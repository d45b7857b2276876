import jax.numpy as jnp
import numpy as np

from memzoo.models.ops.matrix_product import matrix_product


def test_factors_are_rounded_and_sums_are_not():
    left = jnp.full((1, 512), 1 + 2.0**-12, jnp.float32)
    right = jnp.ones((512, 1), jnp.float32)
    types = {"accumulate": jnp.float32}
    rounded = matrix_product("ik,kj->ij", left, right, operand=jnp.bfloat16, **types)
    exact = matrix_product("ik,kj->ij", left, right, operand=jnp.float32, **types)
    assert rounded.dtype == jnp.float32
    np.testing.assert_array_equal(rounded, [[512]])
    np.testing.assert_allclose(exact, [[512.125]], rtol=1e-6)
