"""One chunk of linear attention with scalar decay, forwards and backwards.

With S the memory before the chunk and D, E, F and g the decays `within`, `carried`,
`remaining` and `kept`:

    O = E Q S + (Q K^T D) V
    S' = g S + K^T F V

The backward pass reads the S that the forward pass saved and computes the scores anew.
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


class Chunk(NamedTuple):
    """A chunk with its heads before its tokens."""

    q: Float[Array, "b h c k"]
    k: Float[Array, "b h c k"]
    v: Float[Array, "b h c v"]
    decay: ChunkDecay
    scores: Float[Array, "b h c c"]


def forward(
    memory: Float[Array, "b h k v"],
    tokens: tuple,
    segment: Int[Array, "b c"] | None,
) -> tuple[Float[Array, "b h k v"], Float[Array, "b c h v"], tuple]:
    """The memory after a chunk, its outputs, and its scores and decays to save.

    Args:
        memory: before the chunk.
        tokens: q, k, v and log decay (or None), `b c h ...`.
        segment: document starts seen in the chunk.
    """
    chunk, dot = _prepare(memory, tokens, segment)
    decay = chunk.decay
    o = scale(dot("bhik,bhkv->bhiv", chunk.q, memory), decay.carried)
    o = o + dot("bhij,bhjv->bhiv", chunk.scores * decay.within, chunk.v)
    left = dot("bhjk,bhjv->bhkv", chunk.k, scale(chunk.v, decay.remaining))
    saved = (chunk.scores, decay)
    return keep(memory, decay) + left, _tokens_first(o, tokens[2]), saved


def backward(
    memory: Float[Array, "b h k v"],
    tokens: tuple,
    segment: Int[Array, "b c"] | None,
    saved: tuple[Float[Array, "b h c c"], ChunkDecay],
    memory_cotangent: Float[Array, "b h k v"],
    o_cotangent: Float[Array, "b c h v"],
) -> tuple[Float[Array, "b h k v"], tuple]:
    """The cotangents of the memory before a chunk and of its tokens.

    Args:
        memory: before the chunk.
        tokens: as in `forward`.
        segment: document starts seen in the chunk.
        saved: the scores and decays of the chunk.
        memory_cotangent: of the memory after the chunk.
        o_cotangent: of the outputs.
    """
    chunk, dot = _prepare(memory, tokens, segment, saved)
    decay = chunk.decay
    do = jnp.swapaxes(o_cotangent, 1, 2).astype(memory.dtype)
    left = scale(dot("bhjk,bhkv->bhjv", chunk.k, memory_cotangent), decay.remaining)
    dv = dot("bhij,bhiv->bhjv", chunk.scores * decay.within, do) + left
    pulled = dot("bhiv,bhkv->bhik", do, memory)
    dscores = dot("bhiv,bhjv->bhij", do, chunk.v) * decay.within
    dq = scale(pulled, decay.carried) + dot("bhij,bhjk->bhik", dscores, chunk.k)
    remaining = scale(chunk.v, decay.remaining)
    dk = dot("bhij,bhik->bhjk", dscores, chunk.q)
    dk = dk + dot("bhjv,bhkv->bhjk", remaining, memory_cotangent)
    dmemory = dot("bhik,bhiv->bhkv", chunk.q, scale(do, decay.carried))
    dlog_decay = None
    given = tokens[3] is not None
    if given and decay.carried is not None and decay.kept is not None:
        dlog_decay = log_decay_cotangent(
            dscores * chunk.scores,
            row_sum(pulled * chunk.q) * decay.carried,
            row_sum(left * chunk.v),
            row_sum(row_sum(memory * memory_cotangent)) * decay.kept,
        )
    cotangents = tuple(
        None if x is None else _tokens_first(x, like)
        for x, like in zip((dq, dk, dv, dlog_decay), tokens, strict=True)
    )
    return keep(memory_cotangent, decay) + dmemory, cotangents


def _prepare(
    memory: Float[Array, "b h k v"],
    tokens: tuple,
    segment: Int[Array, "b c"] | None,
    saved: tuple[Float[Array, "b h c c"], ChunkDecay] | None = None,
) -> tuple[Chunk, Any]:
    dtype = memory.dtype
    q, k, v, log_decay = tokens
    dot = partial(
        matrix_product, operand=jnp.result_type(q, k, v), accumulate=memory.dtype
    )
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))
    if saved is None:
        if log_decay is not None:
            log_decay = jnp.swapaxes(log_decay, 1, 2)
        decay = chunk_decay(log_decay, segment, shape=q.shape[:3], dtype=dtype)
        saved = (dot("bhik,bhjk->bhij", q, k), decay)
    scores, decay = saved
    return Chunk(q, k, v.astype(dtype), decay, scores), dot


def _tokens_first(x: Array, like: Array) -> Array:
    return jnp.swapaxes(x, 1, 2).astype(like.dtype)
