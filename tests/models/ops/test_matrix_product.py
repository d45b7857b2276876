import jax.numpy as jnp
import numpy as np

from memzoo.models.ops.matrix_product import exact_product, matrix_product


def test_factors_are_rounded_and_sums_are_not():
    left = jnp.full((1, 512), 1 + 2.0**-12, jnp.float32)
    right = jnp.ones((512, 1), jnp.float32)
    types = {"accumulate": jnp.float32}
    rounded = matrix_product("ik,kj->ij", left, right, operand=jnp.bfloat16, **types)
    exact = matrix_product("ik,kj->ij", left, right, operand=jnp.float32, **types)
    assert rounded.dtype == jnp.float32
    np.testing.assert_array_equal(rounded, [[512]])
    np.testing.assert_allclose(exact, [[512.125]], rtol=1e-6)


def test_an_exact_product_keeps_the_type_and_the_digits(x64):
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((3, 5)), rng.standard_normal((5, 2))
    for dtype, bound in ((jnp.float32, 1e-6), (jnp.float64, 1e-14)):
        narrow = (jnp.asarray(x, dtype) for x in (left, right))
        found = exact_product("ik,kj->ij", *narrow)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, left @ right, rtol=bound, atol=bound)
