"""One chunk of the delta rule, forwards and, with its gradient by hand, backwards.

With S the memory before the chunk, D, E, F and g the decays `within`, `carried`,
`remaining` and `kept`, and b the write strengths:

    W = (I + L)^-1 b (V - E K S), L = b strict(K K^T D)
    O = E Q S + (Q K^T D) W
    S' = g S + K^T F W

The backward pass reads S, W and the inverse that the forward pass saved and computes
the scores anew. Queries and keys are stacked wherever both meet the same factor.
"""

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .chunk_decay import (
    ChunkDecay,
    chunk_decay,
    keep,
    log_decay_cotangent,
    row_sum,
    scale,
)
from .matrix_product import matrix_product
from .triangular import unit_lower_inverse


class Saved(NamedTuple):
    """What the forward pass hands on to the backward pass."""

    write: Float[Array, "b h c v"]
    inverse: Float[Array, "b h c c"]


class Chunk(NamedTuple):
    """A chunk with its heads before its tokens.

    `reads` holds the queries and below them the keys, `scores` their products with the
    keys.
    """

    reads: Float[Array, "b h 2*c k"]
    k: Float[Array, "b h c k"]
    v: Float[Array, "b h c v"]
    write_strength: Float[Array, "b h c"]
    decay: ChunkDecay
    scores: Float[Array, "b h 2*c c"]


def forward(
    memory: Float[Array, "b h k v"],
    tokens: tuple,
    segment: Int[Array, "b c"] | None,
) -> tuple[Float[Array, "b h k v"], Float[Array, "b c h v"], Saved]:
    """The memory after a chunk, its outputs, and what the backward pass needs.

    Args:
        memory: before the chunk.
        tokens: q, k, v, write strength and log decay (or None), `b c h ...`.
        segment: document starts seen in the chunk.
    """
    chunk, dot = _prepare(memory, tokens, segment)
    size, strength, decay = chunk.k.shape[2], chunk.write_strength, chunk.decay
    erased = jnp.tril(chunk.scores[:, :, size:] * decay.within, -1)
    inverse = unit_lower_inverse(scale(erased, strength))
    carried = dot("bhik,bhkv->bhiv", chunk.reads, memory)
    error = chunk.v - scale(carried[:, :, size:], decay.carried)
    write = dot("bhij,bhjv->bhiv", inverse, scale(error, strength))
    scores = chunk.scores[:, :, :size] * decay.within
    o = scale(carried[:, :, :size], decay.carried)
    o = o + dot("bhij,bhjv->bhiv", scores, write)
    left = dot("bhjk,bhjv->bhkv", chunk.k, scale(write, decay.remaining))
    return (
        keep(memory, decay) + left,
        _tokens_first(o, tokens[2]),
        Saved(write, inverse),
    )


def backward(
    memory: Float[Array, "b h k v"],
    tokens: tuple,
    segment: Int[Array, "b c"] | None,
    saved: Saved,
    memory_cotangent: Float[Array, "b h k v"],
    o_cotangent: Float[Array, "b c h v"],
) -> tuple[Float[Array, "b h k v"], tuple]:
    """The cotangents of the memory before a chunk and of its tokens.

    Args:
        memory: before the chunk.
        tokens: as in `forward`.
        segment: document starts seen in the chunk.
        saved: by the forward pass.
        memory_cotangent: of the memory after the chunk.
        o_cotangent: of the outputs.
    """
    chunk, dot = _prepare(memory, tokens, segment)
    size, strength, decay = chunk.k.shape[2], chunk.write_strength, chunk.decay
    write, inverse = saved
    do = jnp.swapaxes(o_cotangent, 1, 2).astype(memory.dtype)
    left = scale(dot("bhjk,bhkv->bhjv", chunk.k, memory_cotangent), decay.remaining)
    scores = chunk.scores[:, :, :size] * decay.within
    dwrite = dot("bhij,bhiv->bhjv", scores, do) + left
    # Of the right-hand side of the triangular system, b (V - E K S).
    dright = dot("bhij,bhiv->bhjv", inverse, dwrite)

    dreads = jnp.concatenate([do, -dright], axis=2)
    gates = jnp.concatenate([jnp.ones_like(strength), strength], axis=2)
    carried = gates
    if decay.carried is not None:
        twice = jnp.concatenate([decay.carried, decay.carried], axis=2)
        carried = gates * jnp.broadcast_to(twice, gates.shape)
    pulled = dot("bhiv,bhkv->bhik", dreads, memory)
    within = jnp.concatenate([decay.within, jnp.tril(decay.within, -1)], axis=2)
    pairs = dot("bhiv,bhjv->bhij", dreads, write) * within
    dscores = scale(pairs, gates)
    dstacked = scale(pulled, carried) + dot("bhij,bhjk->bhik", dscores, chunk.k)
    remaining = scale(write, decay.remaining)
    dk = dot("bhij,bhik->bhjk", dscores, chunk.reads)
    dk = dk + dot("bhjv,bhkv->bhjk", remaining, memory_cotangent)
    dmemory = dot("bhik,bhiv->bhkv", chunk.reads, scale(dreads, carried))

    from_memory = row_sum(pulled * chunk.reads)
    pairs = pairs * chunk.scores
    from_chunk = row_sum(pairs)
    recalled = scale(from_memory[:, :, size:, None], decay.carried)[..., 0]
    dstrength = row_sum(dright * chunk.v) + recalled + from_chunk[:, :, size:]
    dlog_decay = None
    if decay.kept is not None and tokens[4] is not None:
        pairs, from_memory = scale(pairs, gates), from_memory * carried
        dlog_decay = log_decay_cotangent(
            pairs[:, :, :size] + pairs[:, :, size:],
            from_memory[:, :, :size] + from_memory[:, :, size:],
            row_sum(left * write),
            row_sum(row_sum(memory * memory_cotangent)) * decay.kept,
        )
    cotangents = (
        dstacked[:, :, :size],
        dstacked[:, :, size:] + dk,
        scale(dright, strength),
        dstrength,
        dlog_decay,
    )
    cotangents = tuple(
        None if x is None else _tokens_first(x, like)
        for x, like in zip(cotangents, tokens, strict=True)
    )
    return keep(memory_cotangent, decay) + dmemory, cotangents


def _prepare(
    memory: Float[Array, "b h k v"], tokens: tuple, segment: Int[Array, "b c"] | None
) -> tuple[Chunk, Any]:
    dtype = memory.dtype
    q, k, v, strength, log_decay = tokens
    operand = jnp.result_type(q, k, v)
    dot = partial(matrix_product, operand=operand, accumulate=dtype)
    size = q.shape[1]
    reads = jnp.swapaxes(jnp.concatenate([q, k], axis=1), 1, 2)
    k, v, strength = reads[:, :, size:], jnp.swapaxes(v, 1, 2), strength.swapaxes(1, 2)
    if log_decay is not None:
        log_decay = jnp.swapaxes(log_decay, 1, 2)
    decay = chunk_decay(log_decay, segment, shape=strength.shape, dtype=dtype)
    scores = dot("bhik,bhjk->bhij", reads, k)
    chunk = Chunk(reads, k, v.astype(dtype), strength.astype(dtype), decay, scores)
    return chunk, dot


def _tokens_first(x: Array, like: Array) -> Array:
    return jnp.swapaxes(x, 1, 2).astype(like.dtype)
