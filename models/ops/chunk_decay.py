"""Decay from token to token inside a chunk."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int


class ChunkDecay(NamedTuple):
    """What is left of a write when it is read, for every pair of places in a chunk.

    Axes of length 1 stand for shared factors, `None` for ones.

    Attributes:
        within: from token j (last axis) to token i, zero for j > i and across a
            document start.
        carried: from the chunk's first memory to token i.
        remaining: from token j to the chunk's last memory.
        kept: from the chunk's first memory to its last.
    """

    within: Float[Array, "*#axes c c"]
    carried: Float[Array, "*#axes c"] | None
    remaining: Float[Array, "*#axes c"] | None
    kept: Float[Array, "*#axes"] | None


def running_log_decay(
    log_decay: Float[Array, "n b c h"] | None, dtype: DTypeLike
) -> Float[Array, "n b c h"] | None:
    """The logarithm of the decay from the start of each chunk to each token."""
    if log_decay is None:
        return None
    return jnp.cumsum(log_decay.astype(dtype), axis=2)


def chunk_decay(
    running: Float[Array, "*axes h c"] | None,
    segment: Int[Array, "*axes c"] | None,
    *,
    shape: tuple[int, ...],
    dtype: DTypeLike,
) -> ChunkDecay:
    """The decays of a chunk from its running decay.

    Differences of the running decay are masked before the exponential, so that nothing
    overflows, in the gradient neither. A document start masks exactly, by its segment.

    Args:
        running: logarithm of the decay up to token i, as `running_log_decay` returns
            it; finite and falling. None: no decay.
        segment: document starts seen in the chunk, 0 for the carried document. Shared
            by the heads.
        shape: of `running`, given or not: axes, heads, tokens in the chunk.
        dtype: of the decays.
    """
    size = shape[-1]
    causal = np.tril(np.ones((size, size), bool))
    mask = jnp.asarray(causal.reshape((1,) * (len(shape) - 1) + causal.shape))
    carries = remains = keeps = None
    if segment is not None:
        segment = segment[..., None, :]
        same = segment[..., :, None] == segment[..., None, :]
        mask = jnp.logical_and(mask, same)
        carries = segment == 0
        remains = segment == segment[..., -1:]
        keeps = segment[..., -1] == 0
    if running is None:
        within = mask.astype(dtype)
        return ChunkDecay(within, *_as(dtype, carries, remains, keeps))
    difference = running[..., :, None] - running[..., None, :]
    mask = jnp.broadcast_to(mask, difference.shape)
    within = jnp.where(mask, jnp.exp(jnp.where(mask, difference, 0)), 0)
    last = running[..., -1:]
    return ChunkDecay(
        within,
        _masked(carries, jnp.exp(running)),
        _masked(remains, jnp.exp(last - running)),
        _masked(keeps, jnp.exp(last[..., 0])),
    )


def running_cotangent(
    rises: Float[Array, "b h c"],
    falls: Float[Array, "b h c"],
    remained: Float[Array, "b h c"],
    kept: Float[Array, "b h"],
) -> Float[Array, "b h c"]:
    """The cotangent of a chunk's running decay.

    The running decay of a token multiplies what the token reads and divides what it
    writes; that of the last token also multiplies the memory handed on.

    Args:
        rises: what the reads of each token contribute.
        falls: what the reads of each token's write contribute.
        remained: what the last memory contributes through each token's write.
        kept: what the last memory contributes through the first.
    """
    total = rises - falls - remained
    return total.at[:, :, -1].add(row_sum(remained) + kept)


def scale(
    x: Float[Array, "*#axes v"], factor: Float[Array, "*#axes"] | None
) -> Float[Array, "*#axes v"]:
    """`x` with its last axis multiplied by a factor, or as it is."""
    return x if factor is None else x * factor[..., None]


def keep(
    memory: Float[Array, "*axes k v"], decay: ChunkDecay
) -> Float[Array, "*axes k v"]:
    """What the chunk keeps of its first memory."""
    return memory if decay.kept is None else memory * decay.kept[..., None, None]


def row_sum(x: Float[Array, "*axes c"]) -> Float[Array, "*axes"]:
    """Sums over the last axis.

    As a product with ones, which XLA runs several times faster on a CPU.
    """
    return jnp.einsum("...c,c->...", x, jnp.ones(x.shape[-1], x.dtype))


def column_sum(
    x: Float[Array, "*axes i c"], weights: Float[Array, "*axes i"]
) -> Float[Array, "*axes c"]:
    """Weighted sums over the last axis but one."""
    return jnp.einsum("...ic,...i->...c", x, weights)


def _as(dtype: DTypeLike, *masks: Bool[Array, "..."] | None) -> list[Array | None]:
    return [None if mask is None else mask.astype(dtype) for mask in masks]


def _masked(mask: Bool[Array, "..."] | None, factor: Float[Array, "..."]) -> Array:
    if mask is None:
        return factor
    return jnp.where(jnp.broadcast_to(mask, factor.shape), factor, 0)
