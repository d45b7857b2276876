"""Pending writes of lagged rules; both forms are compared in test_neural_memory."""

import jax.numpy as jnp
import numpy as np

from memzoo.models.ops.lagged_writes import with_token
from memzoo.models.ops.memory_network import MemoryNetwork
from memzoo.models.ops.write_rule import Pending


def test_each_matrix_has_a_rate_of_its_token():
    network = MemoryNetwork(key_size=2, value_size=2, hidden_size=3, depth=2)
    names = list(network.matrices())
    random = np.random.default_rng(0)
    gradient = {
        name: jnp.asarray(random.normal(size=(1, 1, *size)), jnp.float32)
        for name, size in network.matrices().items()
    }
    zeros = {name: jnp.zeros(g.shape) for name, g in gradient.items()}
    pending = Pending(zeros, jnp.zeros((1, 1)))
    for rate in (0.5, 0.25):
        rates = jnp.asarray([[[rate, 10 * rate]]])
        pending = with_token(pending, gradient, rates, jnp.full((1, 1), 0.9), network)
    for name, factor in zip(names, (0.75, 7.5), strict=True):
        np.testing.assert_allclose(
            pending.step[name], -factor * gradient[name], rtol=1e-5
        )
    np.testing.assert_allclose(pending.momentum, [[1.8]], rtol=1e-6)
