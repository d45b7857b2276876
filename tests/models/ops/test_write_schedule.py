"""The coefficients against the recurrences that they solve."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memzoo.models.ops.write_schedule import (
    Gates,
    before_the_write,
    products,
    titans_schedule,
    window_schedule,
)

SIZE = 6


def gates_of(kind, rng):
    theta, eta, alpha = (jnp.asarray(rng.uniform(size=(1, 1, SIZE))) for _ in range(3))
    if kind == "extreme":
        eta = jnp.asarray([0.0, 1, 0.5, 0, 1, 1]).reshape(1, 1, SIZE)
        alpha = jnp.asarray([1.0, 0, 1, 0.5, 0, 0]).reshape(1, 1, SIZE)
    keep_eta, keep_alpha = kind != "no momentum", kind != "no forgetting"
    return Gates(theta, eta if keep_eta else None, alpha if keep_alpha else None)


@pytest.mark.parametrize("kind", ["any", "extreme", "no momentum", "no forgetting"])
def test_titans_solves_its_recurrence(x64, kind):
    rng = np.random.default_rng(0)
    gates, valid = gates_of(kind, rng), np.array([1, 1, 0, 1, 1, 0], bool)
    u = rng.standard_normal(SIZE)
    first, momentum = 1.3, 0.0 if gates.momentum is None else -0.7

    @jax.jit
    def coefficients_of(gates, valid):
        schedule = titans_schedule(gates, valid, None)
        return schedule, before_the_write(schedule)

    schedule, before = jax.tree.map(np.asarray, coefficients_of(gates, valid[None]))
    gates = jax.tree.map(np.asarray, gates)
    w, s = first, momentum
    for t in range(SIZE):
        previous = w
        if valid[t]:
            theta, eta, alpha = (0 if g is None else g[0, 0, t] for g in gates[:3])
            s = eta * s - theta * u[t]
            w = (1 - alpha) * w + s
        for coefficients, expected in ((schedule, w), (before, previous)):
            value = coefficients.kept[0, 0, t] * first
            if coefficients.pushed is not None:
                value += coefficients.pushed[0, 0, t] * momentum
            value -= coefficients.written[0, 0, t] @ u
            np.testing.assert_allclose(value, expected, rtol=1e-12)
    if gates.momentum is not None:
        last = schedule.momentum_kept[0, 0] * momentum
        last -= schedule.momentum_written[0, 0] @ u
        np.testing.assert_allclose(last, s, rtol=1e-12)


def test_a_window_scales_all_its_steps(x64):
    rng = np.random.default_rng(0)
    theta, scale = (jnp.asarray(rng.uniform(size=(1, 1, SIZE))) for _ in range(2))
    valid = np.array([0, 1, 1, 1, 0, 0], bool)
    u = rng.standard_normal(SIZE)
    gates = Gates(theta, step_scale=scale)
    schedule = jax.tree.map(np.asarray, jax.jit(window_schedule)(gates, valid[None]))
    theta, scale = np.asarray(theta), np.asarray(scale)
    anchor, s = 0.4, -0.2
    for t in range(1, SIZE):
        if valid[t]:
            s = s - theta[0, 0, t] * u[t]
            expected = anchor + scale[0, 0, t] * s
        value = anchor + schedule.pushed[0, 0, t] * -0.2 - schedule.written[0, 0, t] @ u
        np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_the_window_schedule_needs_its_scale():
    with pytest.raises(ValueError, match=r"Gates\.step_scale is missing; give it"):
        window_schedule(Gates(jnp.ones((1, 1, 2))), jnp.ones((1, 2), bool))


def test_products_of_factors_that_are_zero(x64):
    factor = jnp.asarray([0.5, 0.0, 2.0, 3.0])
    expected = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 2, 1, 0], [0, 6, 3, 1]]
    np.testing.assert_array_equal(products(factor), expected)
