"""Coefficients with which the writes of a chunk add up in a neural memory.

After token t of a chunk, a memory holds

    W_t = kept_t W_0 + pushed_t S_0 - sum_i written_ti u_i

with W_0 and S_0 the weights and the momentum before the chunk and u_i the gradient of
token i. A schedule gives these coefficients, for weights of any shape.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from memzoo.errors import InputError

from .triangular import unit_lower_inverse


class Gates(NamedTuple):
    """Numbers per token and head that control the write; float32.

    Attributes:
        learning_rate: theta, size of the gradient step.
        momentum: eta, fraction of the momentum that is kept; None: no momentum.
        forget: alpha, fraction of the memory that is forgotten; None: nothing.
        step_scale: factor of all steps of the window so far (TTT only).
        threshold: error above which a Huber loss grows linearly (that loss only).
    """

    learning_rate: Float[Array, "..."]
    momentum: Float[Array, "..."] | None = None
    forget: Float[Array, "..."] | None = None
    step_scale: Float[Array, "..."] | None = None
    threshold: Float[Array, "..."] | None = None


class Schedule(NamedTuple):
    """Coefficients of a chunk.

    Attributes:
        kept: coefficient of the first weights, after every token.
        pushed: coefficient of the first momentum, after every token; None: unused.
        written: coefficient of the gradient of token i (last axis) after token t.
        momentum_kept: coefficient of the first momentum in the last; None: no momentum.
        momentum_written: negated coefficients of the gradients in the last momentum.
    """

    kept: Float[Array, "b h c"]
    pushed: Float[Array, "b h c"] | None
    written: Float[Array, "b h c s"]
    momentum_kept: Float[Array, "b h"] | None
    momentum_written: Float[Array, "b h s"] | None


def products(factor: Float[Array, "*b c"]) -> Float[Array, "*b c c"]:
    """Return products of the factors after token s (last axis) to token t, 0 for s > t.

    Differences of logarithms would fail: a factor may be exactly zero. The products are
    the inverse of a matrix with the factors below its diagonal.
    """
    below = np.eye(factor.shape[-1], k=-1, dtype=bool)
    return unit_lower_inverse(jnp.where(_like(below, factor), -factor[..., :, None], 0))


def titans_schedule(
    gates: Gates, valid: Bool[Array, "b c"], band: Float[Array, "b c s"] | None
) -> Schedule:
    """Return the schedule of Titans.

    S_t = eta_t S_(t-1) - theta_t u_t and W_t = (1 - alpha_t) W_(t-1) + S_t.

    Args:
        gates: gates, `b h c`.
        valid: mask of real tokens; others change neither weights nor momentum.
        band: share of token s in the loss at token c of the part; None: the loss at a
            token is only its own.
    """
    mask = valid[:, None]
    rate = jnp.where(mask, gates.learning_rate, 0)
    if gates.momentum is None:
        carried = (
            rate[..., None] * jnp.eye(rate.shape[-1], dtype=rate.dtype)[None, None]
        )
        run = None
    else:
        momentum = jnp.where(mask, gates.momentum, 1)
        carried = products(momentum) * rate[..., None, :]
        run = jnp.cumprod(momentum, axis=-1)
    last = None if run is None else carried[..., -1, :]
    # Padding must not add the momentum to the weights either.
    stepped = jnp.where(mask[..., None], carried, 0)
    if gates.forget is None:
        written = jnp.cumsum(stepped, axis=-2)
        kept = jnp.ones_like(rate)
        pushed = None if run is None else jnp.cumsum(jnp.where(mask, run, 0), axis=-1)
    else:
        keep = jnp.where(mask, 1 - gates.forget, 1)
        decay = products(keep)
        written = decay @ stepped
        kept = jnp.cumprod(keep, axis=-1)
        pushed = None
        if run is not None:
            pushed = jnp.einsum("bhts,bhs->bht", decay, jnp.where(mask, run, 0))
    if band is not None:
        written = jnp.einsum("bhts,bsi->bhti", written, band)
        last = None if last is None else jnp.einsum("bhs,bsi->bhi", last, band)
    return Schedule(kept, pushed, written, None if run is None else run[..., -1], last)


def window_schedule(gates: Gates, valid: Bool[Array, "b c"]) -> Schedule:
    """Return the schedule of TTT (arXiv 2407.04620, its published code).

    W_t = A + scale_t S_t, S_t = S_(t-1) - theta_t u_t, from S = 0 at the anchor A. All
    steps of a window so far are scaled by the place in it. Here W_0 is the anchor.
    """
    if gates.step_scale is None:
        raise InputError("Gates.step_scale is missing; give it to the window schedule")
    rate = jnp.where(valid[:, None], gates.learning_rate, 0)
    last = _last_valid(valid)
    scale = jnp.take_along_axis(gates.step_scale, last[:, None], axis=-1)
    size = rate.shape[-1]
    lower = jnp.tril(jnp.ones((size, size), rate.dtype))[None, None]
    return Schedule(
        kept=jnp.ones_like(rate),
        pushed=scale,
        written=scale[..., None] * lower * rate[..., None, :],
        momentum_kept=jnp.ones_like(rate[..., 0]),
        momentum_written=rate,
    )


def two_schedules(
    gates: Gates, valid: Bool[Array, "b c"], band: Float[Array, "b c s"] | None
) -> tuple[Schedule, Schedule]:
    """Return the schedules of a momentum, and of weights that take steps along it.

    S_t = eta_t S_(t-1) - u_t and W_t = (1 - alpha_t) W_(t-1) + theta_t f(S_t), where f
    is any function. Each is a schedule of Titans without momentum: the first in S_0
    and u, the second in W_0 and -f(S).

    Arguments are as in `titans_schedule`.
    """
    one = jnp.ones_like(gates.learning_rate)
    lost = one if gates.momentum is None else 1 - gates.momentum
    first = titans_schedule(Gates(one, forget=lost), valid, band)
    return first, titans_schedule(gates._replace(momentum=None), valid, None)


def _last_valid(valid: Bool[Array, "b c"]) -> Int[Array, "b c"]:
    index = jnp.arange(valid.shape[1], dtype=jnp.int32)[None, :]
    return jax.lax.cummax(jnp.where(valid, index, 0), axis=1)


def before_the_write(schedule: Schedule) -> Schedule:
    """Return the coefficients before every token's write instead of after it."""

    def shift(x: Array, first: float) -> Array:
        start = jnp.full_like(x[:, :, :1], first)
        return jnp.concatenate([start, x[:, :, :-1]], axis=2)

    pushed = None if schedule.pushed is None else shift(schedule.pushed, 0)
    return schedule._replace(
        kept=shift(schedule.kept, 1),
        pushed=pushed,
        written=shift(schedule.written, 0),
    )


def _like(mask: np.ndarray, factor: Array) -> Array:
    return jnp.asarray(mask.reshape((1,) * (factor.ndim - 1) + mask.shape))
