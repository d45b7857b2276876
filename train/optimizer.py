"""AdamW with its schedule, from an OptimizerConfig."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from ..configs.experiment import OptimizerConfig
from .roles import decay_mask

Schedule = Callable[[Any], Any]
"""Number of an optimizer step, counted from 0 -> its learning rate."""


def make_schedule(config: OptimizerConfig, steps: int) -> Schedule:
    """The learning rate of the optimizer step with number `count`, counted from 0.

    It rises on a line from 0 to the peak at `warmup_steps`, then follows
    `config.schedule`, and is `final_fraction` of the peak at the last step,
    `steps - 1` (but for a constant schedule).
    """
    peak, final = config.learning_rate, config.final_fraction
    begin = config.warmup_steps
    if config.schedule == "wsd":
        begin = max(begin, round((steps - 1) * (1 - config.decay_fraction)))
    length = max(steps - 1 - begin, 1)

    def schedule(count: Int[Array, ""]) -> Float[Array, ""]:
        progress = jnp.clip((count - begin) / length, 0.0, 1.0)
        if config.schedule == "constant":
            share = jnp.ones_like(progress)
        elif config.schedule == "cosine":
            share = final + (1 - final) * 0.5 * (1 + jnp.cos(jnp.pi * progress))
        else:
            share = 1 - (1 - final) * progress
        if config.warmup_steps:
            warmup = jnp.minimum(count / config.warmup_steps, 1.0)
            share = jnp.where(count < config.warmup_steps, warmup, share)
        return peak * share

    return schedule


def make_optimizer(
    config: OptimizerConfig, steps: int, params: Mapping[str, jax.ShapeDtypeStruct]
) -> optax.GradientTransformation:
    """Clipping by the global norm, then AdamW; decay by the table of roles."""
    adamw = optax.adamw(
        make_schedule(config, steps),
        b1=config.beta1,
        b2=config.beta2,
        eps=config.epsilon,
        weight_decay=config.weight_decay,
        mask=decay_mask(params),
    )
    if config.clip_norm is None:
        return adamw
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), adamw)
