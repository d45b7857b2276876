"""Linear attention with the second-order Taylor map, without storing all features.

S_t = S_(t-1) + phi(k_t) v_t^T and o_t = S_t^T phi(q_t), where phi is `taylor`, so that
phi(q) . phi(k) = 1 + s + s^2 / 2 with s = q . k (Based, arXiv 2402.18668; JRT, arXiv
2407.05483). The chunkwise form computes the features of one chunk at a time. Scores
inside a chunk need only s: with queries and keys of 16 numbers, 16 products instead of
153.

With S the memory before a chunk, phi the features, s = Q K^T and D the causal mask
within a document:

    O = phi(Q) S + ((1 + s + s^2 / 2) D) V
    S' = S + phi(K)^T V

A document start masks S for the tokens after it; S' masks all tokens before the last
start. The backward pass recomputes features and scores.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from . import scalar_decay
from .chunk_decay import ChunkDecay, chunk_decay, keep, scale
from .chunk_scan import chunk_scan, resolve_form, split_chunks
from .feature_maps import taylor
from .matrix_product import matrix_product
from .recurrence import Recurrence, token_first, tokens_first
from .scalar_decay import ScalarDecayTokens


class TaylorTokens(NamedTuple):
    """Tokens before the feature map; a token whose value is zero changes nothing.

    Attributes:
        query: queries, scaled by the caller.
        key: keys of few numbers, such as 16.
        value: values, written at the features of the keys.
    """

    query: Float[Array, "b t h k"]
    key: Float[Array, "b t h k"]
    value: Float[Array, "b t h v"]


def _features(tokens: TaylorTokens) -> ScalarDecayTokens:
    return ScalarDecayTokens(taylor(tokens.query), taylor(tokens.key), tokens.value)


def step(
    token: TaylorTokens, memory: Float[Array, "b h f v"]
) -> tuple[Float[Array, "b h v"], Float[Array, "b h f v"]]:
    """Return one token's output (arrays without axis t) and the memory after it."""
    return scalar_decay.step(_features(token), memory)


class Chunk(NamedTuple):
    """A chunk with the axis of heads before the axis of tokens."""

    q: Float[Array, "b h c k"]
    k: Float[Array, "b h c k"]
    v: Float[Array, "b h c v"]
    decay: ChunkDecay
    scores: Float[Array, "b h c c"]
    """s, before the kernel and the mask."""


def chunk(
    memory: Float[Array, "b h f v"],
    tokens: TaylorTokens,
    segment: Int[Array, "b c"] | None,
) -> tuple[Float[Array, "b h f v"], Float[Array, "b c h v"], tuple]:
    """Return the memory after a chunk and its outputs; nothing else is saved.

    Args:
        memory: memory before the chunk.
        tokens: tokens of the chunk, `b c h ...`.
        segment: document starts in the chunk.
    """
    part, dot = _prepare(memory, tokens, segment)
    decay, s = part.decay, part.scores
    o = scale(dot("bhif,bhfv->bhiv", taylor(part.q), memory), decay.carried)
    o = o + dot("bhij,bhjv->bhiv", _kernel(s) * decay.within, part.v)
    values = scale(part.v, decay.remaining)
    left = dot("bhjf,bhjv->bhfv", taylor(part.k), values)
    o = token_first(o, tokens.value)
    return keep(memory, decay) + left, o, ()


def chunk_backward(
    memory: Float[Array, "b h f v"],
    tokens: TaylorTokens,
    segment: Int[Array, "b c"] | None,
    saved: tuple,
    memory_cotangent: Float[Array, "b h f v"],
    o_cotangent: Float[Array, "b c h v"],
) -> tuple[Float[Array, "b h f v"], TaylorTokens]:
    """Return the cotangents of the memory before a chunk and of its tokens.

    Args:
        memory: memory before the chunk.
        tokens: as in `chunk`.
        segment: document starts in the chunk.
        saved: nothing.
        memory_cotangent: cotangent of the memory after the chunk.
        o_cotangent: cotangent of the outputs.
    """
    del saved
    part, dot = _prepare(memory, tokens, segment)
    decay, s = part.decay, part.scores
    do = jnp.swapaxes(o_cotangent, 1, 2).astype(memory.dtype)
    carried = scale(do, decay.carried)
    features_q, pull_q = jax.vjp(taylor, part.q)
    features_k, pull_k = jax.vjp(taylor, part.k)
    # Through the scores, and through the memory before and after the chunk.
    ds = dot("bhiv,bhjv->bhij", do, part.v) * decay.within * (1 + s)
    dq = dot("bhij,bhjk->bhik", ds, part.k)
    dk = dot("bhij,bhik->bhjk", ds, part.q)
    dfeatures_q = dot("bhiv,bhfv->bhif", carried, memory)
    values = scale(part.v, decay.remaining)
    dfeatures_k = dot("bhjv,bhfv->bhjf", values, memory_cotangent)
    dq = dq + pull_q(dfeatures_q.astype(features_q.dtype))[0]
    dk = dk + pull_k(dfeatures_k.astype(features_k.dtype))[0]
    dv = dot("bhij,bhiv->bhjv", _kernel(s) * decay.within, do)
    dv = dv + scale(
        dot("bhjf,bhfv->bhjv", features_k, memory_cotangent), decay.remaining
    )
    dmemory = dot("bhif,bhiv->bhfv", features_q, carried)
    cotangents = tokens_first((dq, dk, dv), tokens)
    return keep(memory_cotangent, decay) + dmemory, cotangents


def _kernel(s: Float[Array, "b h c c"]) -> Float[Array, "b h c c"]:
    """Return phi(q) . phi(k)."""
    return 1 + s + 0.5 * s * s


def _prepare(
    memory: Float[Array, "b h f v"],
    tokens: TaylorTokens,
    segment: Int[Array, "b c"] | None,
) -> tuple[Chunk, Any]:
    dtype = memory.dtype
    dot = partial(matrix_product, operand=jnp.result_type(*tokens), accumulate=dtype)
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in tokens)
    decay = chunk_decay(None, segment, shape=q.shape[:3], dtype=dtype)
    scores = dot("bhik,bhjk->bhij", q, k)
    return Chunk(q, k, v.astype(dtype), decay, scores), dot


def all_chunks(
    tokens: TaylorTokens,
    segments: Int[Array, "n b c"] | None,
    which: Int[Array, "b n"] | None,
    memory: Float[Array, "b *m h f v"],
) -> tuple[Float[Array, "n b c h v"], Float[Array, "b *m h f v"]]:
    """Return the outputs and the last memory, computing all features at once."""
    return scalar_decay.all_chunks(_features(tokens), segments, which, memory)


def write_all(
    tokens: TaylorTokens, memory: Float[Array, "b h f v"]
) -> Float[Array, "b h f v"]:
    """Return the memory after a sequence, without computing outputs."""
    if resolve_form("auto") == "parallel":
        return scalar_decay.write_all(_features(tokens), memory)
    operand = jnp.result_type(tokens.key, tokens.value)
    dot = partial(matrix_product, operand=operand, accumulate=memory.dtype)

    def chunk(memory: Array, pair: tuple, segment: None) -> tuple[Array, tuple, tuple]:
        del segment
        k, v = (jnp.swapaxes(x, 1, 2) for x in pair)
        return memory + dot("bhck,bhcv->bhkv", taylor(k), v), (), ()

    size = TAYLOR_ATTENTION.resolve_chunk_size(None, tokens.key.shape[1])
    chunks = split_chunks((tokens.key, tokens.value), size)
    return chunk_scan(chunk, memory, chunks, None)[1]


TAYLOR_ATTENTION = Recurrence(
    tokens=TaylorTokens,
    memory_axes="b h f v",
    step=step,
    chunk=chunk,
    chunk_backward=chunk_backward,
    all_chunks=all_chunks,
    write_all=write_all,
    # Larger than in other operations: features are many, and scores inside a chunk are
    # cheap.
    chunk_size=(64, 64),
)
