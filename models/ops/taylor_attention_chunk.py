"""One chunk of linear attention through the Taylor map, forwards and backwards.

With S the memory before the chunk, phi the features, s = Q K^T and D the causal mask
within a document:

    O = phi(Q) S + ((1 + s + s^2 / 2) D) V
    S' = S + phi(K)^T V

A document start masks S for the tokens behind it, and what stands before the last one
in S'. The backward pass makes features and scores anew.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .chunk_decay import ChunkDecay, chunk_decay, keep, scale
from .feature_maps import taylor
from .matrix_product import matrix_product


class Chunk(NamedTuple):
    """A chunk with its heads before its tokens."""

    q: Float[Array, "b h c k"]
    k: Float[Array, "b h c k"]
    v: Float[Array, "b h c v"]
    decay: ChunkDecay
    scores: Float[Array, "b h c c"]
    """s, before the kernel and the mask."""


def forward(
    memory: Float[Array, "b h f v"],
    tokens: tuple,
    segment: Int[Array, "b c"] | None,
) -> tuple[Float[Array, "b h f v"], Float[Array, "b c h v"], tuple]:
    """The memory after a chunk and its outputs; nothing else is saved.

    Args:
        memory: before the chunk.
        tokens: q, k and v, `b c h ...`.
        segment: document starts seen in the chunk.
    """
    chunk, dot = _prepare(memory, tokens, segment)
    decay, s = chunk.decay, chunk.scores
    o = scale(dot("bhif,bhfv->bhiv", taylor(chunk.q), memory), decay.carried)
    o = o + dot("bhij,bhjv->bhiv", _kernel(s) * decay.within, chunk.v)
    values = scale(chunk.v, decay.remaining)
    left = dot("bhjf,bhjv->bhfv", taylor(chunk.k), values)
    o = jnp.swapaxes(o, 1, 2).astype(tokens[2].dtype)
    return keep(memory, decay) + left, o, ()


def backward(
    memory: Float[Array, "b h f v"],
    tokens: tuple,
    segment: Int[Array, "b c"] | None,
    saved: tuple,
    memory_cotangent: Float[Array, "b h f v"],
    o_cotangent: Float[Array, "b c h v"],
) -> tuple[Float[Array, "b h f v"], tuple]:
    """The cotangents of the memory before a chunk and of its tokens.

    Args:
        memory: before the chunk.
        tokens: as in `forward`.
        segment: document starts seen in the chunk.
        saved: nothing.
        memory_cotangent: of the memory after the chunk.
        o_cotangent: of the outputs.
    """
    del saved
    chunk, dot = _prepare(memory, tokens, segment)
    decay, s = chunk.decay, chunk.scores
    do = jnp.swapaxes(o_cotangent, 1, 2).astype(memory.dtype)
    carried = scale(do, decay.carried)
    features_q, pull_q = jax.vjp(taylor, chunk.q)
    features_k, pull_k = jax.vjp(taylor, chunk.k)
    # Through the scores, and through the memory before and after the chunk.
    ds = dot("bhiv,bhjv->bhij", do, chunk.v) * decay.within * (1 + s)
    dq = dot("bhij,bhjk->bhik", ds, chunk.k)
    dk = dot("bhij,bhik->bhjk", ds, chunk.q)
    dfeatures_q = dot("bhiv,bhfv->bhif", carried, memory)
    values = scale(chunk.v, decay.remaining)
    dfeatures_k = dot("bhjv,bhfv->bhjf", values, memory_cotangent)
    dq = dq + pull_q(dfeatures_q.astype(features_q.dtype))[0]
    dk = dk + pull_k(dfeatures_k.astype(features_k.dtype))[0]
    dv = dot("bhij,bhiv->bhjv", _kernel(s) * decay.within, do)
    dv = dv + scale(
        dot("bhjf,bhfv->bhjv", features_k, memory_cotangent), decay.remaining
    )
    dmemory = dot("bhif,bhiv->bhfv", features_q, carried)
    cotangents = tuple(
        jnp.swapaxes(x, 1, 2).astype(like.dtype)
        for x, like in zip((dq, dk, dv), tokens, strict=True)
    )
    return keep(memory_cotangent, decay) + dmemory, cotangents


def _kernel(s: Float[Array, "b h c c"]) -> Float[Array, "b h c c"]:
    """phi(q) . phi(k)."""
    return 1 + s + 0.5 * s * s


def _prepare(
    memory: Float[Array, "b h f v"],
    tokens: tuple,
    segment: Int[Array, "b c"] | None,
) -> tuple[Chunk, Any]:
    dtype = memory.dtype
    dot = partial(matrix_product, operand=jnp.result_type(*tokens), accumulate=dtype)
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in tokens)
    decay = chunk_decay(None, segment, shape=q.shape[:3], dtype=dtype)
    scores = dot("bhik,bhjk->bhij", q, k)
    return Chunk(q, k, v.astype(dtype), decay, scores), dot
