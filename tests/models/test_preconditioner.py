"""Gates of the keys' covariance."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from memzoo.models.ops.erase_write import EraseWriteTokens
from memzoo.models.preconditioner import Preconditioner


def test_gates_follow_their_maps():
    made = Preconditioner(4, 2, nnx.Rngs(0), fastest=1.0)
    x = np.random.default_rng(0).standard_normal((3, 5, 4)).astype(np.float32)
    keys = jnp.ones((3, 5, 2, 6))
    tokens = made(EraseWriteTokens(keys, keys, keys, keys), jnp.asarray(x))
    kernel = np.asarray(made.write_strength.kernel[...])
    np.testing.assert_allclose(
        tokens.covariance_strength, 1 / (1 + np.exp(-x @ kernel)), rtol=1e-5
    )
    np.testing.assert_array_equal(tokens.centre, np.full((3, 5, 2), np.float32(-0.2)))
    assert tokens.covariance_log_decay.shape == (3, 5, 2)
    memory = made.init_memory(jnp.ones((3, 2, 6, 5)))
    assert memory.covariance.shape == (3, 2, 6) and not np.any(memory.covariance)
