"""Moneta's map from kept to used weights; the layer as a loop is in test_miras."""

import jax.numpy as jnp
import numpy as np

from memzoo.models.moneta import MonetaConfig
from memzoo.models.ops.write_rule import used_weights

A = np.random.default_rng(0).normal(size=(1, 1, 3, 4)).astype(np.float32)


def test_a_longer_memory_gives_shorter_weights():
    rule = MonetaConfig().write_rule()
    once, twice = (used_weights({"m": jnp.asarray(c * A)}, rule)["m"] for c in (1, 2))
    norm = np.sum(A**4) ** (1 / 4)
    np.testing.assert_allclose(once, A / norm**2, rtol=1e-5)
    np.testing.assert_allclose(twice, once / 2, rtol=1e-5)


def test_weights_are_the_memory_in_the_square_norm():
    rule = MonetaConfig(norm_power=2.0).write_rule()
    used = used_weights({"m": jnp.asarray(A)}, rule)["m"]
    np.testing.assert_allclose(used, A, rtol=1e-6)
