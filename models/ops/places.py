"""Positions of tokens in their documents."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def places(
    position: Int[Array, "b"],
    time: int,
    *,
    reset: Bool[Array, "b t"] | None = None,
    length: Int[Array, "b"] | None = None,
) -> tuple[Int[Array, "b t"], Int[Array, "b"]]:
    """Return every token's position in its document, and the next token's.

    Args:
        position: position of the first token if it does not begin a document.
        time: number of tokens in the call.
        reset: True where a document begins.
        length: number of real tokens, at the front of each row; None: all.
    """
    index = jnp.arange(time, dtype=jnp.int32)[None, :]
    place = position[:, None] + index
    if reset is not None:
        start = jax.lax.cummax(jnp.where(reset, index, -1), axis=1)
        place = jnp.where(start >= 0, index - start, place)
    if time == 0:
        return place, position
    if length is None:
        return place, place[:, -1] + 1
    last = jnp.clip(length - 1, 0)[:, None]
    after = jnp.take_along_axis(place, last, axis=1)[:, 0] + 1
    return place, jnp.where(length > 0, after, position)
