"""A decay with one value per head."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from memzoo.models.head_decay import HeadDecay
from memzoo.models.projection import PerMemory


def test_decays_start_as_published_and_follow_their_map():
    decay = HeadDecay(4, 64, nnx.Rngs(0), fastest=16.0)
    assert isinstance(decay.kernel, PerMemory)
    rate = np.exp(np.asarray(decay.log_a[...]))
    assert 0 < np.min(rate) < 3 and 14 < np.max(rate) <= 16
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    kernel, bias = (np.asarray(p[...]) for p in (decay.kernel, decay.time_bias))
    time = np.log1p(np.exp(x @ kernel + bias))
    np.testing.assert_allclose(decay(jnp.asarray(x)), -rate * time, rtol=1e-5)
    at_zero = np.asarray(decay(jnp.zeros((1, 1, 4))))[0, 0] / -rate
    assert 0.999e-3 < np.min(at_zero) < np.max(at_zero) < 0.1001
