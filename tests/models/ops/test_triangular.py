import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.triangular import unit_lower_inverse


def _strictly_lower(size, seed=0):
    rng = np.random.default_rng(seed)
    return np.tril(rng.standard_normal((2, 3, size, size)), -1) / np.sqrt(size)


@pytest.mark.parametrize("size", [1, 2, 7, 16, 17, 32, 37, 64])
def test_inverse_equals_numpy(x64, size):
    lower = _strictly_lower(size)
    inverse = unit_lower_inverse(jnp.asarray(lower))
    expected = np.linalg.inv(np.eye(size) + lower)
    np.testing.assert_allclose(inverse, expected, rtol=1e-9, atol=1e-10)
    np.testing.assert_array_equal(inverse, np.tril(inverse))


@pytest.mark.parametrize("size", [1, 2, 17])
def test_it_may_be_mapped_over_before_it_is_differentiated(x64, size):
    lower = jnp.asarray(_strictly_lower(size))
    rates = jnp.asarray(np.random.default_rng(1).standard_normal(lower.shape[:-1]))

    def loss(inverse):
        def one(lower, rate):
            return inverse(jnp.tril(lower, -1)) * rate[None, :]

        mapped = jax.jit(jax.vmap(jax.vmap(one)))
        return lambda lower, rates: jnp.sum(jnp.sin(mapped(lower, rates)))

    def reference(lower):
        return jnp.linalg.inv(jnp.eye(size) + lower)

    for number in (0, 1):
        found = jax.grad(loss(unit_lower_inverse), argnums=number)(lower, rates)
        expected = jax.grad(loss(reference), argnums=number)(lower, rates)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [5, 16, 37])
def test_gradient_equals_that_of_numpy_inverse_by_autodiff(x64, size):
    lower = jnp.asarray(_strictly_lower(size))
    weights = jnp.asarray(np.random.default_rng(1).standard_normal(lower.shape))

    def loss(inverse):
        return lambda lower: jnp.sum(weights * inverse(jnp.tril(lower, -1)))

    def reference(lower):
        eye = jnp.broadcast_to(jnp.eye(size), lower.shape)
        return jnp.linalg.inv(eye + lower)

    found = jax.grad(loss(unit_lower_inverse))(lower)
    expected = jax.grad(loss(reference))(lower)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_tangent_equals_finite_differences(x64):
    lower, direction = (jnp.asarray(_strictly_lower(17, seed)) for seed in (0, 1))
    _, tangent = jax.jvp(unit_lower_inverse, (lower,), (direction,))
    ends = [unit_lower_inverse(lower + sign * 1e-6 * direction) for sign in (1, -1)]
    np.testing.assert_allclose(tangent, (ends[0] - ends[1]) / 2e-6, atol=1e-7)


@pytest.mark.parametrize("write_strength", [1.0, 1.9])
def test_correlated_keys_lose_no_digits_in_float32(write_strength):
    rng = np.random.default_rng(0)
    keys = rng.standard_normal((1, 8)) + 0.05 * rng.standard_normal((64, 8))
    keys = keys / np.linalg.norm(keys, axis=-1, keepdims=True)
    lower = np.tril(write_strength * keys @ keys.T, -1).astype(np.float32)
    expected = np.linalg.inv(np.eye(64) + lower.astype(np.float64))
    inverse = unit_lower_inverse(jnp.asarray(lower))
    error = np.sqrt(np.mean((inverse - expected) ** 2) / np.mean(expected**2))
    assert error < 5e-6


def test_leading_rows_do_not_depend_on_later_ones_in_any_bit():
    lower = _strictly_lower(64).astype(np.float32)
    changed = lower.copy()
    changed[..., 21:, :] *= 3
    before = unit_lower_inverse(jnp.asarray(lower))
    after = unit_lower_inverse(jnp.asarray(changed))
    np.testing.assert_array_equal(before[..., :21, :], after[..., :21, :])
