"""Losses of a neural memory against numpy, and their gradients against the printed."""

import jax
import jax.numpy as jnp
import numpy as np

from memzoo.models.ops.inner_loss import inner_loss


def test_huber_is_quadratic_below_the_threshold_and_linear_above(x64):
    error = np.array([[0.3, -0.4], [3.0, 4.0], [0.0, 0.0]])
    threshold = jnp.asarray([0.6, 2.0, 0.0])

    def total(read):
        losses = inner_loss("huber", read, jnp.zeros((3, 2)), threshold, power=3.0)
        return jnp.sum(losses), losses

    slope, losses = jax.grad(total, has_aux=True)(jnp.asarray(error))
    np.testing.assert_allclose(losses, [0.125, 2 * 5 - 2, 0.0], rtol=1e-12)
    # The gradient is the error, shortened to the threshold.
    wanted = [[0.3, -0.4], [1.2, 1.6], [0.0, 0.0]]
    np.testing.assert_allclose(slope, wanted, rtol=1e-12)


def test_a_power_of_two_is_the_squared_error_and_three_its_cube(x64):
    read, value = jnp.asarray([[1.0, -2.0]]), jnp.asarray([[0.5, 1.0]])
    two, three = (inner_loss("power", read, value, power=p)[0] for p in (2.0, 3.0))
    np.testing.assert_allclose(two, 0.25 + 9, rtol=1e-5)
    np.testing.assert_allclose(three, 0.125 + 27, rtol=1e-4)
    full, half = (inner_loss(k, read, value, power=3.0)[0] for k in ("full", "half"))
    assert full == 0.25 + 9 and half == full / 2
