"""AdamW with its schedule, from an OptimizerConfig."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from ..configs.experiment import OptimizerConfig
from .roles import decay_mask

Schedule = Callable[[Any], Any]
"""Function from the number of an optimizer step, counted from 0, to its learning
rate.
"""


class ScheduleNumbers(NamedTuple):
    """Numbers of a schedule as arrays, so that a new learning rate compiles nothing.

    Attributes:
        peak: highest learning rate.
        warmup: number of warm-up steps.
        begin: first step of the decay.
        length: number of decay steps.
        final: learning rate at the end, as a share of the peak.
    """

    peak: Float[Array, ""]
    warmup: Float[Array, ""]
    begin: Float[Array, ""]
    length: Float[Array, ""]
    final: Float[Array, ""]


def schedule_numbers(config: OptimizerConfig, steps: int) -> ScheduleNumbers:
    """Return the numbers of an experiment's schedule."""
    begin = config.warmup_steps
    if config.schedule == "wsd":
        begin = max(begin, round((steps - 1) * (1 - config.decay_fraction)))
    length = max(steps - 1 - begin, 1)
    final = 1.0 if config.schedule == "constant" else config.final_fraction
    numbers = (config.learning_rate, config.warmup_steps, begin, length, final)
    return ScheduleNumbers(*(jnp.asarray(n, jnp.float32) for n in numbers))


def make_schedule(kind: str, numbers: ScheduleNumbers) -> Schedule:
    """Return a function that gives the learning rate of step `count`, counted from 0.

    The rate rises linearly from 0 to the peak at `warmup`, then follows `kind`, and is
    `final` of the peak at the last step (except for a constant schedule).
    """
    peak, warmup, begin, length, final = numbers

    def schedule(count: Int[Array, ""]) -> Float[Array, ""]:
        progress = jnp.clip((count - begin) / length, 0.0, 1.0)
        if kind == "cosine":
            share = final + (1 - final) * 0.5 * (1 + jnp.cos(jnp.pi * progress))
        else:
            share = 1 - (1 - final) * progress
        rise = count / jnp.maximum(warmup, 1.0)
        return peak * jnp.where(count < warmup, rise, share)

    return schedule


def make_optimizer(
    config: OptimizerConfig,
    numbers: ScheduleNumbers,
    params: Mapping[str, Any],
) -> optax.GradientTransformation:
    """Return clipping by the global norm, then AdamW; the table of roles sets the
    decay.

    Args:
        numbers: numbers of the schedule; they may be traced.
        params: arrays or their shapes, by path.
    """
    adamw = optax.adamw(
        make_schedule(config.schedule, numbers),
        b1=config.beta1,
        b2=config.beta2,
        eps=config.epsilon,
        weight_decay=config.weight_decay,
        mask=decay_mask(params),
    )
    if config.clip_norm is None:
        return adamw
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), adamw)
