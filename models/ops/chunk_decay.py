"""Decay from token to token inside a chunk."""

from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int


class ChunkDecay(NamedTuple):
    """What is left of a write when it is read, for every pair of places in a chunk.

    `None` stands for ones.

    Attributes:
        within: from token j (last axis) to token i, zero for j > i and across a
            document start.
        carried: from the chunk's first memory to token i.
        remaining: from token j to the chunk's last memory.
        kept: from the chunk's first memory to its last.
    """

    within: Float[Array, "*axes c c"]
    carried: Float[Array, "*axes c"] | None
    remaining: Float[Array, "*axes c"] | None
    kept: Float[Array, "*axes"] | None


def chunk_decay(
    log_decay: Float[Array, "*axes h c"] | None,
    segment: Int[Array, "*axes c"] | None,
    *,
    chunk_size: int,
    dtype: DTypeLike,
) -> ChunkDecay:
    """The decays of a chunk from the decay of every step.

    Differences of the running sum are masked before the exponential, so that nothing
    overflows, in the gradient neither. A document start masks exactly, by its segment.

    Args:
        log_decay: logarithm of the decay that enters token i, finite and at most 0.
        segment: document starts seen in the chunk, 0 for the carried document. Shared
            by the heads.
        chunk_size: tokens in the chunk.
        dtype: of the decays.
    """
    mask = jnp.tril(jnp.ones((chunk_size, chunk_size), bool))
    carries = remains = keeps = None
    if segment is not None:
        segment = segment[..., None, :]
        same = segment[..., :, None] == segment[..., None, :]
        mask = jnp.logical_and(mask.reshape((1,) * (same.ndim - 2) + mask.shape), same)
        carries = segment == 0
        remains = segment == segment[..., -1:]
        keeps = segment[..., -1] == 0
    if log_decay is None:
        return ChunkDecay(
            mask.astype(dtype),
            _ones(carries, dtype),
            _ones(remains, dtype),
            _ones(keeps, dtype),
        )
    total = jnp.cumsum(log_decay.astype(dtype), axis=-1)
    difference = total[..., :, None] - total[..., None, :]
    mask = jnp.broadcast_to(mask, difference.shape)
    within = jnp.where(mask, jnp.exp(jnp.where(mask, difference, 0)), 0)
    return ChunkDecay(
        within,
        _masked(carries, jnp.exp(total)),
        _masked(remains, jnp.exp(total[..., -1:] - total)),
        _masked(keeps, jnp.exp(total[..., -1])),
    )


def scale(
    x: Float[Array, "*#axes v"], factor: Float[Array, "*#axes"] | None
) -> Float[Array, "*#axes v"]:
    """`x` with its last axis multiplied by a factor, or as it is."""
    return x if factor is None else x * factor[..., None]


def _ones(mask: Bool[Array, "..."] | None, dtype: DTypeLike) -> Array | None:
    return None if mask is None else mask.astype(dtype)


def _masked(mask: Bool[Array, "..."] | None, factor: Float[Array, "..."]) -> Array:
    if mask is None:
        return factor
    return jnp.where(jnp.broadcast_to(mask, factor.shape), factor, 0)
