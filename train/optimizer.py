"""AdamW with its schedule, from an OptimizerConfig."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from ..configs.experiment import OptimizerConfig
from .roles import decay_mask

Schedule = Callable[[Any], Any]
"""Number of an optimizer step, counted from 0 -> its learning rate."""


class ScheduleNumbers(NamedTuple):
    """What a schedule is made of, as arrays: a new learning rate compiles nothing.

    Attributes:
        peak: the highest learning rate.
        warmup: steps that rise to it.
        begin: the first step that falls.
        length: steps that fall.
        final: learning rate at the end, as a share of the peak.
    """

    peak: Float[Array, ""]
    warmup: Float[Array, ""]
    begin: Float[Array, ""]
    length: Float[Array, ""]
    final: Float[Array, ""]


def schedule_numbers(config: OptimizerConfig, steps: int) -> ScheduleNumbers:
    """The numbers of an experiment's schedule."""
    begin = config.warmup_steps
    if config.schedule == "wsd":
        begin = max(begin, round((steps - 1) * (1 - config.decay_fraction)))
    length = max(steps - 1 - begin, 1)
    final = 1.0 if config.schedule == "constant" else config.final_fraction
    numbers = (config.learning_rate, config.warmup_steps, begin, length, final)
    return ScheduleNumbers(*(jnp.asarray(n, jnp.float32) for n in numbers))


def make_schedule(kind: str, numbers: ScheduleNumbers) -> Schedule:
    """The learning rate of the optimizer step with number `count`, counted from 0.

    It rises on a line from 0 to the peak at `warmup`, then follows `kind`, and is
    `final` of the peak at the last step (but for a constant schedule).
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
    """Clipping by the global norm, then AdamW; decay by the table of roles.

    Args:
        numbers: of the schedule; traced ones will do.
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
