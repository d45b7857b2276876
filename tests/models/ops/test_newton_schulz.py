"""Newton-Schulz steps against the same polynomial of numpy's singular values."""

import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.newton_schulz import newton_schulz


def by_svd(matrix, steps):
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    s = s / np.sqrt(np.sum(matrix**2) + 1e-6)
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ np.diag(s) @ v, s


@pytest.mark.parametrize("shape", [(3, 5), (5, 3)])
def test_each_step_is_a_polynomial_of_the_singular_values(x64, shape):
    matrix = np.random.default_rng(0).standard_normal(shape)
    wanted, values = by_svd(matrix, 5)
    assert values.min() > 0.6 and values.max() < 1.25
    np.testing.assert_allclose(
        newton_schulz(jnp.asarray(matrix), 5), wanted, atol=1e-10
    )


def test_the_length_of_a_matrix_does_not_matter_unless_it_is_noise(x64):
    matrix = jnp.asarray(np.random.default_rng(1).standard_normal((4, 4)))
    long = newton_schulz(1e3 * matrix, 5)
    np.testing.assert_allclose(newton_schulz(matrix, 5), long, rtol=1e-4)
    assert np.abs(newton_schulz(1e-9 * matrix, 5)).max() < 1e-2
    assert not np.any(newton_schulz(0 * matrix, 5))
