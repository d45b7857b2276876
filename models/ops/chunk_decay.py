"""Decay between tokens inside a chunk."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int


class ChunkDecay(NamedTuple):
    """Factor of a write when it is read, for every pair of tokens in a chunk.

    An axis of length 1 is a shared factor; `None` means factors of one.

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


# Below this log decay every decay is exactly zero, in float64 too.
LEAST_LOG_DECAY = -1e4


def segment_sums(x: Float[Array, "*axes c"]) -> Float[Array, "*axes c c"]:
    """Return sums of `x` after token j (last axis) up to token i, zero for j >= i.

    Each sum adds only the terms of its own segment, as a product with a mask. In a
    difference of two running sums, a large term before the segment would cost digits.
    For the same reason the gradient adds only the segments that contain the term.

    Args:
        x: finite values.
    """
    size = x.shape[-1]
    up_to = _constant(np.tri(size, dtype=bool), x.ndim + 1)
    rows = jnp.where(up_to, x[..., None, :], 0)
    after = jnp.asarray(np.tri(size, k=-1), x.dtype)
    return jnp.einsum("...ir,rj->...ij", rows, after, precision="highest")


def chunk_decay(
    log_decay: Float[Array, "*axes h c"] | None,
    segment: Int[Array, "*axes c"] | None,
    *,
    shape: tuple[int, ...],
    dtype: DTypeLike,
) -> ChunkDecay:
    """Return the decays of a chunk from the decay of each token.

    Every decay is the exponential of a sum over the tokens between. The sum is at most
    0, so nothing overflows. Document starts mask exactly, by segments.

    Args:
        log_decay: logarithm of each token's decay, at most 0; minus infinity erases
            the memory. None: no decay.
        segment: number of document starts so far in the chunk, 0 for the carried
            document. Shared by the heads.
        shape: shape of `log_decay`, even if it is None: axes, heads, tokens per chunk.
        dtype: type of the decays.
    """
    size = shape[-1]
    mask = _constant(np.tri(size, dtype=bool), len(shape) + 1)
    carries = remains = keeps = None
    if segment is not None:
        same, carries, remains, keeps = same_document(segment)
        mask = jnp.logical_and(mask, same)
    if log_decay is None:
        within = mask.astype(dtype)
        return ChunkDecay(within, *_as(dtype, carries, remains, keeps))
    # Must be finite: a mask's zero times minus infinity would be NaN.
    log_decay = jnp.maximum(log_decay.astype(dtype), LEAST_LOG_DECAY)
    sums = segment_sums(log_decay)
    within = _masked(mask, jnp.exp(sums))
    carried = jnp.exp(sums[..., 0] + log_decay[..., :1])
    return ChunkDecay(
        within,
        _masked(carries, carried),
        within[..., -1, :],
        _masked(keeps, carried[..., -1]),
    )


def same_document(
    segment: Int[Array, "*axes c"],
) -> tuple[
    Bool[Array, "*axes 1 c c"],
    Bool[Array, "*axes 1 c"],
    Bool[Array, "*axes 1 c"],
    Bool[Array, "*axes 1"],
]:
    """Return masks that the heads share, from the document starts in the chunk.

    Returns:
        Pairs of tokens in one document; tokens of the carried document; tokens of the
        last document; whether these two documents are the same.
    """
    segment = segment[..., None, :]
    same = segment[..., :, None] == segment[..., None, :]
    return same, segment == 0, segment == segment[..., -1:], segment[..., -1] == 0


def log_decay_cotangent(
    pairs: Float[Array, "b h c c"],
    carried: Float[Array, "b h c"],
    remained: Float[Array, "b h c"],
    kept: Float[Array, "b h"],
) -> Float[Array, "b h c"]:
    """Return the cotangent of each token's log decay.

    A token's decay enters every decay from before it to itself or later. Only those
    contributions are added, so nothing cancels, as in `segment_sums`.

    Args:
        pairs: contribution of each decay `within`: its cotangent times itself.
        carried: contribution of each decay `carried`.
        remained: contribution of each decay `remaining`.
        kept: contribution of the decay `kept`.
    """
    size, axes = pairs.shape[-1], pairs.ndim
    last = np.arange(size) == size - 1
    remained = jnp.where(_constant(last[:, None], axes), remained[..., None, :], 0)
    carried = carried + jnp.where(_constant(last, axes - 1), kept[..., None], 0)
    before = jnp.asarray(np.tri(size, k=-1).T, pairs.dtype)
    over = jnp.einsum("...ij,jr->...ir", pairs + remained, before, precision="highest")
    up_to = _constant(np.tri(size, dtype=bool), axes)
    over = jnp.where(up_to, over + carried[..., None], 0)
    ones = jnp.ones(size, over.dtype)
    return jnp.einsum("...ir,i->...r", over, ones, precision="highest")


def scale(
    x: Float[Array, "*#axes v"], factor: Float[Array, "*#axes"] | None
) -> Float[Array, "*#axes v"]:
    """Multiply the last axis of `x` by a factor; None: return `x`."""
    return x if factor is None else x * factor[..., None]


def keep(
    memory: Float[Array, "*axes k v"], decay: ChunkDecay
) -> Float[Array, "*axes k v"]:
    """Return the part of the chunk's first memory that remains in its last."""
    return memory if decay.kept is None else memory * decay.kept[..., None, None]


def row_sum(x: Float[Array, "*axes c"]) -> Float[Array, "*axes"]:
    """Sum over the last axis, as a product with ones.

    XLA runs the product several times faster on a CPU.
    """
    return jnp.einsum("...c,c->...", x, jnp.ones(x.shape[-1], x.dtype))


def _as(dtype: DTypeLike, *masks: Bool[Array, "..."] | None) -> list[Array | None]:
    return [None if mask is None else mask.astype(dtype) for mask in masks]


def _masked(mask: Bool[Array, "..."] | None, factor: Float[Array, "..."]) -> Array:
    if mask is None:
        return factor
    return jnp.where(jnp.broadcast_to(mask, factor.shape), factor, 0)


def _constant(mask: Bool[np.ndarray, "..."], axes: int) -> Bool[Array, "..."]:
    """Return the mask with the missing leading axes added, of length 1."""
    return jnp.asarray(mask.reshape((1,) * (axes - mask.ndim) + mask.shape))
