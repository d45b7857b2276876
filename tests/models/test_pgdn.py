"""Preconditioned Gated DeltaNet against pkda with one decay per head."""

import jax
import numpy as np
import pytest

from memzoo.models.interface import Layout
from memzoo.models.pgdn import (
    PGDNConfig,
)


def test_a_token_is_a_gated_delta_step_with_another_key(subject):
    """The memory is that of the op, with gates and streams of gated_delta_net."""
    config = PGDNConfig(num_heads=1, value_heads=2, chunk_size=4)
    layer, params, x = subject(config)
    _, state = jax.jit(lambda x, s: layer(x, s))(x, layer.init_state(2, 0))
    inputs, _ = layer.inputs(x, layer.init_state(2, 0), Layout())
    tokens = jax.tree.map(lambda a: np.asarray(a, np.float64), inputs.tokens)
    strength = 1 / (1 + np.exp(-np.asarray(x) @ params["write_strength/kernel"]))
    np.testing.assert_allclose(
        tokens.erase, strength[..., None] * tokens.key, rtol=1e-4, atol=1e-6
    )
    memory, covariance = np.zeros((2, 2, 8, 16)), np.zeros((2, 2, 8))
    for t in range(x.shape[1]):
        kept = np.exp(tokens.covariance_log_decay[:, t])
        added = tokens.covariance_strength[:, t, :, None] * tokens.key[:, t] ** 2
        covariance = kept[..., None] * covariance + added
        r = np.log(covariance + 1e-6) - tokens.centre[:, t, :, None]
        write = tokens.key[:, t] * 1.5 ** (-r / (1 + np.abs(r)))
        memory = np.exp(tokens.log_decay[:, t])[..., None] * memory
        error = tokens.value[:, t]
        error = error - np.einsum("bhk,bhkv->bhv", tokens.erase[:, t], memory)
        memory = memory + np.einsum("bhk,bhv->bhkv", write, error)
    np.testing.assert_allclose(state.memory.covariance, covariance, rtol=1e-4)
    np.testing.assert_allclose(state.memory.memory, memory, rtol=1e-4, atol=1e-5)


def test_a_prefix_is_refused():
    with pytest.raises(ValueError, match="prefix is True, and pgdn reads no"):
        PGDNConfig(prefix=True)
