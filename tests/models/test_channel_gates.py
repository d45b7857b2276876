"""Gates with one value per channel."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from memzoo.models.channel_gates import ChannelDecay, LowRank
from memzoo.models.projection import PerMemory


def test_a_map_of_low_rank():
    gate = LowRank(8, 2, 6, nnx.Rngs(0), bias=True, per_memory=True)
    x = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    down, up = gate.down.kernel[...], gate.up.kernel[...]
    np.testing.assert_allclose(gate(jnp.asarray(x)), x @ down @ up, rtol=1e-5)
    assert np.linalg.matrix_rank(np.asarray(down @ up)) == 2
    for parameter in (gate.down.kernel, gate.up.kernel, gate.up.bias):
        assert isinstance(parameter, PerMemory)


def test_decays_start_as_published():
    decay = ChannelDecay(4, 2, 64, 3, nnx.Rngs(0), fastest=16.0)
    rate = jnp.exp(decay.log_a[...])
    assert rate.shape == (64,) and decay.time_bias[...].shape == (192,)
    assert 1 <= jnp.min(rate) < 3 and 14 < jnp.max(rate) <= 16
    log_decay = decay(jnp.zeros((1, 2, 4)))
    assert log_decay.shape == (1, 2, 64, 3)
    time = -log_decay[0, 0] / rate[:, None]
    assert 0.999e-3 < jnp.min(time) < jnp.max(time) < 0.1001
