"""Rotation of pairs of channels by angles that accumulate over a document's tokens."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def cumulative_turns(
    turns: Float[Array, "b t h f"],
    before: Float[Array, "b h f"],
    *,
    reset: Bool[Array, "b t"] | None = None,
) -> Float[Array, "b t h f"]:
    """Return the document's turns up to each token, without whole turns: in [0, 1).

    Every addition drops whole turns, which is exact, so a long document loses no
    digits. In radians the rounding of 2 pi would add up.

    Args:
        turns: turns that each token adds; 1 is a full turn.
        before: turns after the tokens of earlier calls.
        reset: True where a document begins: the sum restarts at zero.
    """
    starts = jnp.zeros(turns.shape[:2], bool) if reset is None else reset

    def add(first: tuple[Array, Array], then: tuple[Array, Array]):
        start, turns = then
        kept = jnp.where(start, 0, first[1])
        return jnp.logical_or(first[0], start), jnp.mod(kept + turns, 1)

    # The turns of earlier calls are a token before the first.
    starts = jnp.pad(starts, ((0, 0), (1, 0)))
    turns = jnp.concatenate([before[:, None].astype(turns.dtype), turns], axis=1)
    given = (starts[:, :, None, None], jnp.mod(turns, 1))
    return jax.lax.associative_scan(add, given, axis=1)[1][:, 1:]


def rotate_pairs(
    x: Float[Array, "*b k"], turns: Float[Array, "*#b f"]
) -> Float[Array, "*b k"]:
    """Rotate channels 2i and 2i + 1 by turns[i] full turns; the last channels stay."""
    size = 2 * turns.shape[-1]
    angle = 2 * math.pi * turns
    pairs = x[..., :size].reshape(*x.shape[:-1], size // 2, 2)
    first, second = pairs[..., 0], pairs[..., 1]
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    turned = (first * cosine - second * sine, first * sine + second * cosine)
    turned = jnp.stack(turned, axis=-1).reshape(*x.shape[:-1], size)
    return jnp.concatenate([turned, x[..., size:]], axis=-1)
