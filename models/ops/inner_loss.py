"""Losses of a neural memory at a token; its writes reduce them."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from .fast_gradients import row_product

InnerLoss = Literal["full", "half", "huber", "power", "inner"]

_SMOOTH = 1e-6
"""Number added to squared errors, so that powers of |error| have all derivatives."""


def inner_loss(
    kind: InnerLoss,
    read: Float[Array, "*axes v"],
    value: Float[Array, "*axes v"],
    threshold: Float[Array, "*axes"] | None = None,
    *,
    power: float,
) -> Float[Array, "*axes"]:
    """Return the loss of every token, with the error r = read - value.

    Args:
        kind: `full`: |r|^2. `half`: |r|^2 / 2. `huber`: |r|^2 / 2 if |r| is at most the
            threshold d, else d |r| - d^2 / 2. `power`: sum of (r_i^2 + 1e-6)^(power/2).
            `inner`: -<read, value>.
        read: outputs of the memory at the keys.
        value: targets.
        threshold: thresholds of `huber`, 0 or more.
        power: p of the loss `power`.
    """
    if kind == "inner":
        return -row_product(read, value)
    error = read - value
    if kind == "power":
        smooth = jnp.square(error) + _SMOOTH
        return jnp.sum(smooth ** (power / 2), axis=-1)
    if kind == "huber":
        assert threshold is not None
        square = row_product(error, error)
        far = square > jnp.square(threshold)
        # The root of 0 has no derivative; a far error is not 0.
        norm = jnp.sqrt(jnp.where(far, square, 1))
        return jnp.where(far, threshold * (norm - threshold / 2), square / 2)
    return jnp.sum(jnp.square(error), axis=-1) * (0.5 if kind == "half" else 1.0)
