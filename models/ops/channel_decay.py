"""Products of reads and keys with a decay between them, per channel or per head.

With G the running sum of the log decays of a chunk, the score of a read i and a key j
is sum over k of r_ik k_jk exp(G_ik - G_jk) for j <= i. Separate factors exp(G) and
exp(-G) overflow. So pairs are computed by halves: in blocks of 2, 4, 8, ... tokens, the
reads of the right half meet the keys of the left half, and both decay to the right
half's first token:

    exp(G_i - G_j) = exp(sum from that token to i) exp(sum after j up to it)

Every exponent is a sum of log decays between j and i: none is above 0, no digits cancel
and no later token enters. The gradient of a log decay sums only its own pairs.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from .chunk_decay import (
    LEAST_LOG_DECAY,
    chunk_decay,
    row_sum,
    same_document,
    scale,
)
from .matrix_product import matrix_product

_BLOCK = 16  # Halves below this size use masked products of this size.


class DecayedChunk(NamedTuple):
    """Decayed reads and keys of a chunk: everything that does not need its memory.

    Attributes:
        scores: scores of each kind of reads with the keys, zero for j > i and across a
            document start.
        reads: each kind of reads, decayed from the chunk's first memory.
        keys: keys, decayed to the chunk's last memory.
        kept: factor of the chunk's first memory in its last; None: one.
    """

    scores: tuple[Float[Array, "*axes c c"], ...]
    reads: tuple[Float[Array, "*axes c k"], ...]
    keys: Float[Array, "*axes c k"]
    kept: Float[Array, "*#axes #k"] | None


def decay_chunk(
    reads: tuple[Float[Array, "*axes h c k"], ...],
    keys: Float[Array, "*axes h c k"],
    log_decay: Float[Array, "*axes h c #k"] | None,
    segment: Int[Array, "*axes c"] | None,
    *,
    operand: DTypeLike,
) -> DecayedChunk:
    """Return decayed reads and keys, and their scores, in the type of the keys.

    Args:
        reads: any number of kinds of reads, such as queries.
        keys: keys that the reads meet.
        log_decay: log decay per channel, or per head (last axis 1), at most 0; minus
            infinity erases. None: no decay.
        segment: number of document starts so far in the chunk, 0 for the carried
            document.
        operand: type that factors of a matrix product are rounded to.
    """
    if log_decay is not None and log_decay.shape[-1] > 1:
        return _by_channel(reads, keys, log_decay, segment, operand)
    if log_decay is not None:
        log_decay = log_decay[..., 0]
    decay = chunk_decay(log_decay, segment, shape=keys.shape[:-1], dtype=keys.dtype)
    scores = (_product(read, keys, operand) * decay.within for read in reads)
    carried = (scale(read, decay.carried) for read in reads)
    kept = None if decay.kept is None else decay.kept[..., None]
    return DecayedChunk(
        tuple(scores), tuple(carried), scale(keys, decay.remaining), kept
    )


def keep(
    memory: Float[Array, "*axes k v"], kept: Float[Array, "*#axes #k"] | None
) -> Float[Array, "*axes k v"]:
    """Return the part of a chunk's first memory that remains in its last."""
    return memory if kept is None else memory * kept[..., None]


def kept_cotangent(
    memory: Float[Array, "*axes k v"],
    memory_cotangent: Float[Array, "*axes k v"],
    kept: Float[Array, "*#axes #k"] | None,
) -> Float[Array, "*#axes #k"] | None:
    """Return the cotangent of `kept`, from the memory before and the cotangent after.

    Args:
        memory: memory before the chunk.
        memory_cotangent: cotangent of the memory after the chunk.
        kept: factor whose cotangent is returned.
    """
    if kept is None:
        return None
    found = row_sum(memory * memory_cotangent)
    shared = tuple(axis for axis, size in enumerate(kept.shape) if size == 1)
    return jnp.sum(found, axis=shared, keepdims=True)


def _by_channel(
    reads: tuple[Array, ...],
    keys: Array,
    log_decay: Array,
    segment: Int[Array, "*axes c"] | None,
    operand: DTypeLike,
) -> DecayedChunk:
    size = keys.shape[-2]
    padded = 1 << (size - 1).bit_length()

    def pad(x: Array) -> Array:
        rows = [(0, 0)] * (x.ndim - 2) + [(0, padded - size), (0, 0)]
        return x if padded == size else jnp.pad(x, rows)

    # Must be finite: a product of zero and infinity would be NaN.
    log_decay = jnp.maximum(log_decay.astype(keys.dtype), LEAST_LOG_DECAY)
    blocks = _blocks(tuple(map(pad, reads)), pad(keys), pad(log_decay), operand)
    while blocks.keys.shape[-3] > 1:
        blocks = _merge(blocks, operand)
    scores = [score[..., 0, :size, :size] for score in blocks.scores]
    carried = jnp.exp(blocks.carried[..., 0, :size, :])
    remaining = jnp.exp(blocks.remaining[..., 0, :size, :])
    kept = jnp.exp(blocks.carried[..., 0, -1, :])
    if segment is not None:
        same, carries, remains, keeps = same_document(segment)
        scores = [jnp.where(same, score, 0) for score in scores]
        carried = jnp.where(carries[..., None], carried, 0)
        remaining = jnp.where(remains[..., None], remaining, 0)
        kept = jnp.where(keeps[..., None], kept, 0)
    return DecayedChunk(
        tuple(scores), tuple(read * carried for read in reads), keys * remaining, kept
    )


class _Blocks(NamedTuple):
    """A chunk as n blocks of c tokens.

    Attributes:
        reads: each kind of reads.
        keys: keys of the blocks.
        scores: scores of each kind of reads with the keys of their block.
        carried: log decay from a block's start to the token.
        remaining: log decay after the token up to the block's end.
    """

    reads: tuple[Float[Array, "*axes n c k"], ...]
    keys: Float[Array, "*axes n c k"]
    scores: tuple[Float[Array, "*axes n c c"], ...]
    carried: Float[Array, "*axes n c k"]
    remaining: Float[Array, "*axes n c k"]


def _blocks(
    reads: tuple[Float[Array, "*axes c k"], ...],
    keys: Float[Array, "*axes c k"],
    log_decay: Float[Array, "*axes c k"],
    operand: DTypeLike,
) -> _Blocks:
    """Return the smallest blocks; halves of every size meet in one product."""
    *axes, size, channels = keys.shape
    width = min(size, _BLOCK)

    def split(x: Array) -> Array:
        return x.reshape(*axes, size // width, width, channels)

    keys, log_decay = split(keys), split(log_decay)
    up_to = np.tri(width, dtype=bool)
    right, sums, meet = _halves(width)
    sums = np.concatenate([sums, up_to[None], ~up_to[None]])
    sums = jnp.asarray(sums, keys.dtype)
    sums = jnp.einsum("lir,...rk->...lik", sums, log_decay, precision="highest")
    factor = jnp.exp(sums[..., :-2, :, :])
    right, meet, diagonal = (
        jnp.asarray(mask.reshape((1,) * (axes - mask.ndim) + mask.shape))
        for mask, axes in (
            (right, factor.ndim),
            (meet, factor.ndim),
            (np.eye(width, dtype=bool), keys.ndim),
        )
    )

    def scores(read: Array) -> Array:
        # Left rows are keys and right rows are reads: one factor serves both.
        rows = jnp.where(right, read[..., None, :, :], keys[..., None, :, :]) * factor
        pairs = jnp.where(meet, _product(rows, rows, operand), 0)
        own = jnp.where(diagonal, row_sum(read * keys)[..., None], 0)
        return jnp.sum(pairs, axis=-3) + own

    reads = tuple(map(split, reads))
    return _Blocks(
        reads,
        keys,
        tuple(map(scores, reads)),
        sums[..., -2, :, :],
        sums[..., -1, :, :],
    )


def _halves(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return masks of the halves of 1, 2, 4, ... tokens, below `size`.

    Returns:
        Rows in a right half; the log decays in a row's sum (from the half's start in a
        right half, up to its end in a left one); pairs of rows that meet.
    """
    place, half = np.arange(size), 1
    rights, sums, meets = [], [], []
    while half < size:
        block = place // half
        same = block[:, None] == block
        right = (block % 2 == 1)[:, None]
        up_to = place <= place[:, None]
        rights.append(right)
        sums.append(same & np.where(right, up_to, ~up_to))
        meets.append((block[:, None] == block + 1) & right)
        half *= 2
    levels = len(rights)
    return (
        np.array(rights, bool).reshape(levels, size, 1),
        np.array(sums, bool).reshape(levels, size, size),
        np.array(meets, bool).reshape(levels, size, size),
    )


def _merge(blocks: _Blocks, operand: DTypeLike) -> _Blocks:
    """Return blocks of twice the size: right halves' reads meet left halves' keys."""

    def left(x: Array) -> Array:
        return x[..., ::2, :, :]

    def right(x: Array) -> Array:
        return x[..., 1::2, :, :]

    def join(first: Array, second: Array) -> Array:
        return jnp.concatenate([first, second], axis=-2)

    keys = left(blocks.keys) * jnp.exp(left(blocks.remaining))
    factor = jnp.exp(right(blocks.carried))
    scores = []
    for read, score in zip(blocks.reads, blocks.scores, strict=True):
        corner = _product(right(read) * factor, keys, operand)
        upper = jnp.concatenate([left(score), jnp.zeros_like(corner)], axis=-1)
        lower = jnp.concatenate([corner, right(score)], axis=-1)
        scores.append(join(upper, lower))
    left_total = left(blocks.carried)[..., -1:, :]
    right_total = right(blocks.carried)[..., -1:, :]
    return _Blocks(
        tuple(join(left(read), right(read)) for read in blocks.reads),
        join(left(blocks.keys), right(blocks.keys)),
        tuple(scores),
        join(left(blocks.carried), right(blocks.carried) + left_total),
        join(left(blocks.remaining) + right_total, right(blocks.remaining)),
    )


def _product(left: Array, right: Array, operand: DTypeLike) -> Array:
    return matrix_product(
        "...ik,...jk->...ij", left, right, operand=operand, accumulate=left.dtype
    )
