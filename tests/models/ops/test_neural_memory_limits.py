"""Long rows of equal keys, extreme gates, bfloat16: values and gradients are finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.memory_network import MemoryNetwork
from memzoo.models.ops.neural_memory import NeuralTokens, neural_memory_chunkwise
from memzoo.models.ops.write_rule import WriteRule, new_memory
from memzoo.models.ops.write_schedule import Gates

BATCH, HEADS, SIZE = 2, 2, 3
NETWORK = MemoryNetwork(depth=2, key_size=SIZE, value_size=SIZE, hidden_size=5)


def row_of_equal_keys(time):
    """Return queries, keys and values in bfloat16, and weights in float32."""
    rng = np.random.default_rng(0)
    q, key, v = rng.standard_normal((3, BATCH, time, HEADS, SIZE))
    key = np.broadcast_to(key[:, :1], key.shape)
    key = key / np.linalg.norm(key, axis=-1, keepdims=True)
    weights = {
        name: jnp.asarray(0.7 * rng.standard_normal((BATCH, HEADS, *s)), jnp.float32)
        for name, s in NETWORK.matrices().items()
    }
    return [jnp.asarray(x, jnp.bfloat16) for x in (q, key, v)], weights


def gates_at_their_ends(time):
    """Momentum and forgetting are exactly 0 or 1 at every token, steps 0 at some."""
    rate, momentum, forget = np.random.default_rng(1).random((3, BATCH, time, HEADS))
    return Gates(
        jnp.asarray(np.where(momentum < 0.2, 0, 0.02 * rate), jnp.float32),
        jnp.asarray(momentum < 0.5, jnp.float32),
        jnp.asarray(forget < 0.01, jnp.float32),
    )


@pytest.mark.parametrize("time", [256, pytest.param(16384, marks=pytest.mark.slow)])
@pytest.mark.parametrize("clip", [None, pytest.param(1.0, marks=pytest.mark.slow)])
def test_equal_keys_and_gates_at_their_ends_stay_finite(time, clip):
    tokens, weights = row_of_equal_keys(time)
    rule = WriteRule(update_every=16, clip=clip)

    def total(tokens, gates, weights):
        memory = new_memory(weights, NETWORK, rule, momentum=True)
        read, after = neural_memory_chunkwise(
            NeuralTokens(*tokens, gates), memory, network=NETWORK, rule=rule
        )
        assert read.dtype == jnp.bfloat16
        kept = sum(jnp.sum(jnp.square(w)) for w in after.weights.values())
        return jnp.sum(jnp.square(read.astype(jnp.float32))) + kept

    value, pulled = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2)))(
        tokens, gates_at_their_ends(time), weights
    )
    assert np.isfinite(value)
    for path, gradient in jax.tree_util.tree_leaves_with_path(pulled):
        name = jax.tree_util.keystr(path)
        assert np.isfinite(np.asarray(gradient, np.float32)).all(), name
        assert np.any(np.asarray(gradient, np.float32)), name
