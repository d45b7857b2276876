"""Initial decays, over many heads."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memzoo.models.decay_init import init_log_a, init_time_bias

HEADS = 4000


@pytest.mark.parametrize(("minimum", "maximum"), [(1.0, 16.0), (0.0, 16.0), (0.0, 1.0)])
def test_a_is_uniform(minimum, maximum):
    log_a = init_log_a(nnx.Rngs(0), HEADS, minimum=minimum, maximum=maximum)
    share = (np.sort(np.exp(log_a)) - minimum) / (maximum - minimum)
    np.testing.assert_allclose(share, np.linspace(0, 1, HEADS), atol=0.04)
    assert log_a.dtype == jnp.float32


def test_a_of_zero_has_a_finite_logarithm():
    log_a = init_log_a(nnx.Rngs(0), 5, minimum=0.0, maximum=1e-9)
    np.testing.assert_allclose(log_a, np.log(1e-4), rtol=1e-6)


def test_time_is_log_uniform_through_softplus():
    bias = init_time_bias(nnx.Rngs(0), HEADS)
    time = np.log1p(np.exp(np.asarray(bias, np.float64)))
    share = (np.sort(np.log(time)) - np.log(1e-3)) / np.log(100)
    np.testing.assert_allclose(share, np.linspace(0, 1, HEADS), atol=0.04)


def test_time_is_never_shorter_than_its_floor():
    bias = init_time_bias(nnx.Rngs(0), 50, shortest=1e-9, longest=1e-8)
    np.testing.assert_allclose(np.log1p(np.exp(bias)), 1e-4, rtol=1e-3)
