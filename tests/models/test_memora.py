"""Memora's weights; the layer as a loop is in test_miras."""

import jax.numpy as jnp
import numpy as np

from memzoo.models.memora import MemoraConfig
from memzoo.models.ops.write_rule import used_weights


def test_weights_are_positive_with_mean_one_over_the_inputs():
    logits = np.random.default_rng(0).normal(size=(1, 2, 3, 4)).astype(np.float32)
    rule = MemoraConfig().write_rule()
    used = np.asarray(used_weights({"m": jnp.asarray(logits)}, rule)["m"])
    wanted = 3 * np.exp(logits) / np.exp(logits).sum(axis=-2, keepdims=True)
    np.testing.assert_allclose(used, wanted, rtol=1e-5)
    np.testing.assert_allclose(used.mean(axis=-2), 1, rtol=1e-5)
