"""Weights after every token, beside loops in numpy."""

import jax.numpy as jnp
import numpy as np

from memzoo.models.ops.formed_weights import after_every_token, last, shifted
from memzoo.models.ops.write_schedule import Schedule

RANDOM = np.random.default_rng(0)
TIME = 3


def _normal(*shape):
    return jnp.asarray(RANDOM.normal(size=(1, 2, *shape)), jnp.float32)


def test_weights_are_kept_pushed_and_written():
    kept, pushed = _normal(TIME), _normal(TIME)
    start, momentum, written = _normal(4, 5), _normal(4, 5), _normal(TIME, 4, 5)
    schedule = Schedule(
        kept=kept,
        pushed=pushed,
        written=jnp.zeros((1, 2, TIME, TIME)),
        momentum_kept=None,
        momentum_written=None,
    )
    formed = after_every_token({"m": start}, {"m": momentum}, schedule, {"m": written})
    for t in range(TIME):
        wanted = kept[..., t, None, None] * start
        wanted = wanted + pushed[..., t, None, None] * momentum + written[:, :, t]
        np.testing.assert_allclose(formed["m"][:, :, t], wanted, rtol=1e-5, atol=1e-6)


def test_shifted_weights_are_those_before_each_write():
    start, each = _normal(4), _normal(TIME, 4)
    before = shifted({"m": start}, {"m": each})["m"]
    np.testing.assert_array_equal(before[:, :, 0], start)
    np.testing.assert_array_equal(before[:, :, 1:], each[:, :, :-1])
    np.testing.assert_array_equal(last({"m": each})["m"], each[:, :, -1])
