"""The delta rule: a memory that replaces the value at a key, with optional decay.

S'_t = a_t S_{t-1}, S_t = S'_t + b_t k_t (v_t - S'_t^T k_t)^T and o_t = S_t^T q_t. This
is one gradient step of size b_t on 1/2 ||S^T k_t - v_t||^2 (arXiv 2102.11174 with
a_t = 1, arXiv 2412.06464 with a_t a function of the input). The chunk form is from
arXiv 2406.06484. With S the memory before the chunk, D, E, F and g the decays `within`,
`carried`, `remaining` and `kept`, and b the write strengths:

    W = (I + L)^-1 b (V - E K S), L = b strict(K K^T D)
    O = E Q S + (Q K^T D) W
    S' = g S + K^T F W

The backward pass uses the saved S, W and inverse and recomputes the scores. Queries and
keys are stacked wherever both meet the same factor.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float, Int

from .chunk_decay import (
    ChunkDecay,
    chunk_decay,
    keep,
    log_decay_cotangent,
    row_sum,
    scale,
)
from .chunk_scan import put_memory, take_memory
from .linear_chunk import LinearChunk
from .matrix_product import matrix_product
from .recurrence import Recurrence, token_first, tokens_first
from .triangular import unit_lower_inverse


class DeltaTokens(NamedTuple):
    """Tokens of the delta rule.

    Attributes:
        query: queries, scaled by the caller.
        key: keys, normalised by the caller.
        value: values, written at the keys.
        write_strength: size of the gradient step; the memory stays bounded if keys have
            length 1 and this is at most 2.
        log_decay: logarithm of the decay, at most 0; minus infinity erases the memory.
            None: no decay.
    """

    query: Float[Array, "b t h k"]
    key: Float[Array, "b t h k"]
    value: Float[Array, "b t h v"]
    write_strength: Float[Array, "b t h"]
    log_decay: Float[Array, "b t h"] | None = None


def step(
    token: DeltaTokens, memory: Float[Array, "b h k v"]
) -> tuple[Float[Array, "b h v"], Float[Array, "b h k v"]]:
    """Return one token's output (arrays without axis t) and the memory after it."""
    read, _, memory = step_with_write(token, memory)
    return read, memory


def step_with_write(
    token: DeltaTokens, memory: Float[Array, "b h k v"]
) -> tuple[Float[Array, "b h v"], Float[Array, "b h v"], Float[Array, "b h k v"]]:
    """Return one token's output, the value added at its key, and the memory after."""
    query, key, value, strength = (x.astype(memory.dtype) for x in token[:4])
    if token.log_decay is not None:
        decay = jnp.exp(token.log_decay.astype(memory.dtype))
        memory = memory * decay[..., None, None]
    error = value - jnp.einsum("bhk,bhkv->bhv", key, memory)
    write = strength[..., None] * error
    memory = memory + key[..., :, None] * write[..., None, :]
    read = jnp.einsum("bhk,bhkv->bhv", query, memory)
    return read.astype(token.value.dtype), write, memory


class Saved(NamedTuple):
    """Arrays saved for the backward pass of a chunk; `write` is added at the keys."""

    write: Float[Array, "b h c v"]
    inverse: Float[Array, "b h c c"]


class Chunk(NamedTuple):
    """A chunk with the axis of heads before the axis of tokens.

    `reads` holds the queries with the keys below them; `scores` holds their products
    with the keys.
    """

    reads: Float[Array, "b h 2*c k"]
    k: Float[Array, "b h c k"]
    v: Float[Array, "b h c v"]
    write_strength: Float[Array, "b h c"]
    decay: ChunkDecay
    scores: Float[Array, "b h 2*c c"]


def chunk(
    memory: Float[Array, "b h k v"],
    tokens: DeltaTokens,
    segment: Int[Array, "b c"] | None,
) -> tuple[Float[Array, "b h k v"], Float[Array, "b c h v"], Saved]:
    """Return the memory after a chunk, its outputs, and arrays for its gradient.

    Args:
        memory: memory before the chunk.
        tokens: tokens of the chunk, `b c h ...`.
        segment: document starts in the chunk.
    """
    part, dot = _prepare(memory.dtype, tokens, segment)
    size, strength, decay = part.k.shape[2], part.write_strength, part.decay
    erased = jnp.tril(part.scores[:, :, size:] * decay.within, -1)
    inverse = unit_lower_inverse(scale(erased, strength))
    carried = dot("bhik,bhkv->bhiv", part.reads, memory)
    error = part.v - scale(carried[:, :, size:], decay.carried)
    write = dot("bhij,bhjv->bhiv", inverse, scale(error, strength))
    scores = part.scores[:, :, :size] * decay.within
    o = scale(carried[:, :, :size], decay.carried)
    o = o + dot("bhij,bhjv->bhiv", scores, write)
    left = dot("bhjk,bhjv->bhkv", part.k, scale(write, decay.remaining))
    return (
        keep(memory, decay) + left,
        token_first(o, tokens.value),
        Saved(write, inverse),
    )


def chunk_backward(
    memory: Float[Array, "b h k v"],
    tokens: DeltaTokens,
    segment: Int[Array, "b c"] | None,
    saved: Saved,
    memory_cotangent: Float[Array, "b h k v"],
    o_cotangent: Float[Array, "b c h v"],
) -> tuple[Float[Array, "b h k v"], DeltaTokens]:
    """Return the cotangents of the memory before a chunk and of its tokens.

    Args:
        memory: memory before the chunk.
        tokens: as in `chunk`.
        segment: document starts in the chunk.
        saved: arrays that the forward pass saved.
        memory_cotangent: cotangent of the memory after the chunk.
        o_cotangent: cotangent of the outputs.
    """
    part, dot = _prepare(memory.dtype, tokens, segment)
    size, strength, decay = part.k.shape[2], part.write_strength, part.decay
    write, inverse = saved
    do = jnp.swapaxes(o_cotangent, 1, 2).astype(memory.dtype)
    left = scale(dot("bhjk,bhkv->bhjv", part.k, memory_cotangent), decay.remaining)
    scores = part.scores[:, :, :size] * decay.within
    dwrite = dot("bhij,bhiv->bhjv", scores, do) + left
    # Cotangent of the triangular system's right-hand side, b (V - E K S).
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
    dstacked = scale(pulled, carried) + dot("bhij,bhjk->bhik", dscores, part.k)
    remaining = scale(write, decay.remaining)
    dk = dot("bhij,bhik->bhjk", dscores, part.reads)
    dk = dk + dot("bhjv,bhkv->bhjk", remaining, memory_cotangent)
    dmemory = dot("bhik,bhiv->bhkv", part.reads, scale(dreads, carried))

    from_memory = row_sum(pulled * part.reads)
    pairs = pairs * part.scores
    from_chunk = row_sum(pairs)
    recalled = scale(from_memory[:, :, size:, None], decay.carried)[..., 0]
    dstrength = row_sum(dright * part.v) + recalled + from_chunk[:, :, size:]
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
    cotangents = tokens_first(cotangents, tokens)
    return keep(memory_cotangent, decay) + dmemory, cotangents


def linear_chunk(
    tokens: DeltaTokens, segment: Int[Array, "b c"] | None, dtype: DTypeLike
) -> LinearChunk:
    """Return a chunk as a linear map of its values and of the memory before it.

    The writes W of the module's equations are linear in V and S; here V and S are
    factored out.

    Args:
        tokens: tokens of the chunk, `b c h ...`.
        segment: document starts in the chunk.
        dtype: type of the memory.
    """
    part, dot = _prepare(dtype, tokens, segment)
    size, strength, decay = part.k.shape[2], part.write_strength, part.decay
    erased = jnp.tril(part.scores[:, :, size:] * decay.within, -1)
    inverse = unit_lower_inverse(scale(erased, strength)) * strength[..., None, :]
    scores = part.scores[:, :, :size] * decay.within
    reads = part.reads.astype(dtype)
    recalls = dot("bhij,bhjk->bhik", inverse, scale(reads[:, :, size:], decay.carried))
    kept_keys = scale(part.k.astype(dtype), decay.remaining)
    return LinearChunk(
        reads=scale(reads[:, :, :size], decay.carried)
        - dot("bhij,bhjk->bhik", scores, recalls),
        within=dot("bhij,bhjr->bhir", scores, inverse),
        writes=dot("bhji,bhjk->bhik", inverse, kept_keys),
        kept=decay.kept,
        erased=dot("bhjk,bhjr->bhkr", kept_keys, recalls),
    )


def _prepare(
    dtype: DTypeLike, tokens: DeltaTokens, segment: Int[Array, "b c"] | None
) -> tuple[Chunk, Any]:
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
    part = Chunk(reads, k, v.astype(dtype), strength.astype(dtype), decay, scores)
    return part, dot


def all_chunks(
    tokens: DeltaTokens,
    segments: Int[Array, "n b c"] | None,
    which: Int[Array, "b n"] | None,
    memory: Float[Array, "b *m h k v"],
) -> tuple[Float[Array, "n b c h v"], Float[Array, "b *m h k v"]]:
    """Return outputs and last memory; only what needs the memory is in the scan."""
    o, _, memory = all_chunks_with_writes(tokens, segments, which, memory)
    return o, memory


def all_chunks_with_writes(
    tokens: DeltaTokens,
    segments: Int[Array, "n b c"] | None,
    which: Int[Array, "b n"] | None,
    memory: Float[Array, "b *m h k v"],
) -> tuple[
    Float[Array, "n b c h v"], Float[Array, "n b h c v"], Float[Array, "b *m h k v"]
]:
    """Return outputs, the values added at the keys, and the last memory."""
    q, k, v, strength, decay = _heads_first(tokens, segments, memory.dtype)
    operand = jnp.result_type(q, k, v)
    dot = partial(matrix_product, operand=operand, accumulate=memory.dtype)
    similarity = dot("nbhik,nbhjk->nbhij", k, k)
    erased = jnp.tril(similarity * decay.within, -1)
    inverse = unit_lower_inverse(scale(erased, strength)) * strength[..., None, :]
    fresh = dot("nbhij,nbhjv->nbhiv", inverse, v)
    erasing = dot(
        "nbhij,nbhjk->nbhik", inverse, scale(k.astype(memory.dtype), decay.carried)
    )

    def body(memories: Array, chunk: tuple):
        k, fresh, erasing, decay, chosen = chunk
        memory = take_memory(memories, chosen)
        write = fresh - dot("bhik,bhkv->bhiv", erasing, memory)
        left = dot("bhjk,bhjv->bhkv", k, scale(write, decay.remaining))
        after = put_memory(memories, chosen, keep(memory, decay) + left)
        return after, (memory, write)

    part = decay._replace(within=None, carried=None)
    chosen = None if which is None else which.T
    inputs = (k, fresh, erasing, part, chosen)
    memory, (before, write) = jax.lax.scan(body, memory, inputs)
    scores = dot("nbhik,nbhjk->nbhij", q, k) * decay.within
    o = scale(dot("nbhik,nbhkv->nbhiv", q, before), decay.carried)
    o = o + dot("nbhij,nbhjv->nbhiv", scores, write)
    return jnp.swapaxes(o, 2, 3).astype(v.dtype), write, memory


def _heads_first(
    tokens: DeltaTokens, segments: Int[Array, "n b c"] | None, dtype: DTypeLike
) -> tuple[Array, Array, Array, Array, ChunkDecay]:
    q, k, v, strength, log_decay = tokens
    q, k, v = (jnp.swapaxes(x, 2, 3) for x in (q, k, v))
    strength = jnp.swapaxes(strength, 2, 3).astype(dtype)
    if log_decay is not None:
        log_decay = jnp.swapaxes(log_decay, 2, 3)
    decay = chunk_decay(log_decay, segments, shape=strength.shape, dtype=dtype)
    return q, k, v, strength, decay


DELTA_RULE = Recurrence(
    tokens=DeltaTokens,
    step=step,
    chunk=chunk,
    chunk_backward=chunk_backward,
    all_chunks=all_chunks,
    linear_chunk=linear_chunk,
)


def gated_delta_rule(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    *,
    write_strength: ArrayLike,
    log_decay: ArrayLike | None = None,
    memory: ArrayLike | None = None,
    reset: Bool[Array, "b t"] | None = None,
    chunk_size: int | None = None,
) -> tuple[Float[Array, "b t h v"], Float[Array, "b h k v"]]:
    """Return every token's read after its write, and the memory after the last token.

    Args:
        query: `b t h k`, scaled by the caller.
        key: `b t h k`, normalised by the caller.
        value: `b t h v`.
        write_strength: `b t h`, see `DeltaTokens`.
        log_decay: `b t h`, at most 0; None: no decay (arXiv 2102.11174).
        memory: `b h k v`, memory before the first token; None: zeros.
        reset: True where a document begins and the memory restarts at zero.
        chunk_size: tokens per chunk; affects speed only. None: chosen for the backend.

    Raises:
        InputError: an array is not one of floats; an axis has two lengths, for example
            because heads come before time; or, outside jit, a log_decay is above 0.
    """
    return DELTA_RULE(
        (query, key, value, write_strength, log_decay),
        memory,
        reset=reset,
        chunk_size=chunk_size,
    )
