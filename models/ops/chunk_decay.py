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


# Below it every decay is exactly zero, in float64 too.
LEAST_LOG_DECAY = -1e4


def segment_sums(x: Float[Array, "*axes c"]) -> Float[Array, "*axes c c"]:
    """Sums of `x` after token j (last axis) up to token i, zero for j >= i.

    Each sum adds only the terms of its own segment, as a product with a mask. A
    difference of two running sums would lose the digits that a large term before the
    segment takes. The gradient adds each term's segments alone, for the same reason.

    Args:
        x: finite.
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
    """The decays of a chunk from the decay of each token.

    Every decay is the exponential of a sum over the tokens between, which is at most
    0: nothing overflows. A document start masks exactly, by its segment.

    Args:
        log_decay: logarithm of each token's decay, at most 0; minus infinity erases
            the memory. None: no decay.
        segment: document starts seen in the chunk, 0 for the carried document. Shared
            by the heads.
        shape: of `log_decay`, given or not: axes, heads, tokens in the chunk.
        dtype: of the decays.
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
    # Finite: a mask's zero times minus infinity would be NaN.
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
    """Return masks that the heads share, from document starts seen in the chunk.

    Returns:
        pairs of tokens of one document; tokens of the carried document; tokens of the
        last document; whether those two are one.
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
    """The cotangent of the log decay of each token.

    A token's decay enters every decay from before it to itself or later. Only the
    contributions of those are added: nothing cancels, as in `segment_sums`.

    Args:
        pairs: what each decay `within` contributes: its cotangent times itself.
        carried: what each decay `carried` contributes.
        remained: what each decay `remaining` contributes.
        kept: what the decay `kept` contributes.
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


def _as(dtype: DTypeLike, *masks: Bool[Array, "..."] | None) -> list[Array | None]:
    return [None if mask is None else mask.astype(dtype) for mask in masks]


def _masked(mask: Bool[Array, "..."] | None, factor: Float[Array, "..."]) -> Array:
    if mask is None:
        return factor
    return jnp.where(jnp.broadcast_to(mask, factor.shape), factor, 0)


def _constant(mask: Bool[np.ndarray, "..."], axes: int) -> Bool[Array, "..."]:
    """The mask with axes of length 1 before its own, as many as are missing."""
    return jnp.asarray(mask.reshape((1,) * (axes - mask.ndim) + mask.shape))
