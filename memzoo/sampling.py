"""Functions that choose the next token from its logits."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from memzoo.errors import InputError

# Smaller temperatures, and reciprocals of larger ones than its inverse, are subnormal
# in float32, and a device may flush them to 0.
LEAST_TEMPERATURE = float(jnp.finfo(jnp.float32).tiny)
_MOST_TEMPERATURE = 1 / LEAST_TEMPERATURE


def check_sampling(temperature: float, top_k: int | None) -> None:
    """Raise InputError if no token can be chosen with these options."""
    number = isinstance(temperature, int | float | np.number)
    if not number or not math.isfinite(temperature) or temperature < 0:
        raise InputError(
            f"temperature is {temperature!r}; give a finite number, 0 or more"
        )
    if top_k is not None and not (isinstance(top_k, int | np.integer) and top_k >= 1):
        raise InputError(f"top_k is {top_k!r}; give 1 or more, or None")


def choose_token(
    logits: Float[Array, "b v"],
    key: Key[Array, ""],
    *,
    temperature: float,
    top_k: int | None = None,
) -> Int[Array, "b"]:
    """Return the next token of every row.

    The token is drawn with probability softmax(logits / temperature) from exactly the
    `top_k` largest logits; of equal logits the lower index counts first. No temperature
    overflows. At 0, and below 1.2e-38, the largest logit is taken, of equal ones the
    one with the lowest index.

    Args:
        logits: finite; a masked token may have -inf.
        key: key of the draw; a token's noise does not depend on the other options.
        temperature: 0 or more, finite.
        top_k: number of tokens to draw from; None: all.
    """
    if temperature < LEAST_TEMPERATURE:
        return jnp.argmax(logits, axis=-1)
    # The largest of logits / temperature + Gumbel noise is such a draw. Scaling both
    # terms, so that neither overflows, does not change which one is the largest.
    below = logits - jnp.max(logits, axis=-1, keepdims=True)
    noise = jax.random.gumbel(key, logits.shape, logits.dtype)
    if temperature <= 1:
        score = below + temperature * noise
    else:
        score = below / min(temperature, _MOST_TEMPERATURE) + noise
    if top_k is not None and top_k < logits.shape[-1]:
        _, kept = jax.lax.top_k(logits, top_k)
        rows = jnp.arange(logits.shape[0])[:, None]
        mask = jnp.zeros(logits.shape, bool).at[rows, kept].set(True)
        score = jnp.where(mask, score, -jnp.inf)
    return jnp.argmax(score, axis=-1)
