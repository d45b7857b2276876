"""Norms over the last axis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from memzoo.models.ops.normalisation import l2_normalise, rms_norm


@pytest.fixture
def x(x64):
    return jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 5)))


def test_rms_norm_is_its_formula(x):
    scale = jnp.arange(1.0, 6.0)
    square = np.mean(np.asarray(x) ** 2, axis=-1, keepdims=True)
    wanted = np.asarray(x) / np.sqrt(square + 0.1)
    np.testing.assert_allclose(rms_norm(x, epsilon=0.1), wanted, rtol=1e-12)
    wanted = wanted * np.arange(1.0, 6.0)
    np.testing.assert_allclose(rms_norm(x, scale, epsilon=0.1), wanted, rtol=1e-12)


def test_l2_normalise_is_its_formula(x):
    square = np.sum(np.asarray(x) ** 2, axis=-1, keepdims=True)
    wanted = np.asarray(x) / np.sqrt(square + 0.1)
    np.testing.assert_allclose(l2_normalise(x, epsilon=0.1), wanted, rtol=1e-12)
    lengths = np.linalg.norm(l2_normalise(x), axis=-1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)


@pytest.mark.parametrize("norm", [rms_norm, l2_normalise])
def test_gradients_are_those_of_finite_differences(x, norm):
    weight = jnp.asarray(np.random.default_rng(1).standard_normal(x.shape))

    def loss(x):
        return jnp.sum(norm(jnp.asarray(x)) * weight)

    check_grads(loss, (x,), order=1, modes=["rev"], rtol=1e-6)


@pytest.mark.parametrize("norm", [rms_norm, l2_normalise])
def test_zero_stays_zero_with_a_finite_gradient(norm):
    zero = jnp.zeros((2, 4))
    np.testing.assert_array_equal(norm(zero), zero)
    assert jnp.all(jnp.isfinite(jax.grad(lambda x: jnp.sum(norm(x)))(zero)))


@pytest.mark.parametrize("norm", [rms_norm, l2_normalise])
def test_bfloat16_is_rounded_once(norm):
    x = (jnp.arange(512.0).reshape(2, 256) / 7).astype(jnp.bfloat16)
    y = norm(x)
    assert y.dtype == jnp.bfloat16
    wanted = norm(x.astype(jnp.float32)).astype(jnp.bfloat16)
    np.testing.assert_array_equal(y, wanted)
