"""Linear attention whose memory decays by one factor per head and token.

S_t = a_t S_{t-1} + k_t v_t^T and o_t = S_t^T q_t (arXiv 2006.16236 with a_t = 1,
arXiv 2307.08621 with a constant a, arXiv 2405.21060 with a_t a function of the input).

With S the memory before a chunk and D, E, F and g the decays `within`, `carried`,
`remaining` and `kept`:

    O = E Q S + (Q K^T D) V
    S' = g S + K^T F V

The backward pass uses the saved S, scores and decays.
"""

from collections.abc import Callable
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


class ScalarDecayTokens(NamedTuple):
    """Tokens of linear attention with one decay per head.

    Attributes:
        query: queries, scaled by the caller.
        key: keys of any size.
        value: values, written at the keys.
        log_decay: logarithm of the decay, at most 0; minus infinity erases the memory.
            None: no decay.
    """

    query: Float[Array, "b t h k"]
    key: Float[Array, "b t h k"]
    value: Float[Array, "b t h v"]
    log_decay: Float[Array, "b t h"] | None = None


def step(
    token: ScalarDecayTokens, memory: Float[Array, "b h k v"]
) -> tuple[Float[Array, "b h v"], Float[Array, "b h k v"]]:
    """Return one token's output (arrays without axis t) and the memory after it."""
    query, key, value = (x.astype(memory.dtype) for x in token[:3])
    if token.log_decay is not None:
        decay = jnp.exp(token.log_decay.astype(memory.dtype))
        memory = memory * decay[..., None, None]
    memory = memory + key[..., :, None] * value[..., None, :]
    read = jnp.einsum("bhk,bhkv->bhv", query, memory)
    return read.astype(token.value.dtype), memory


class Chunk(NamedTuple):
    """A chunk with the axis of heads before the axis of tokens."""

    q: Float[Array, "b h c k"]
    k: Float[Array, "b h c k"]
    v: Float[Array, "b h c v"]
    decay: ChunkDecay
    scores: Float[Array, "b h c c"]


def chunk(
    memory: Float[Array, "b h k v"],
    tokens: ScalarDecayTokens,
    segment: Int[Array, "b c"] | None,
) -> tuple[Float[Array, "b h k v"], Float[Array, "b c h v"], tuple]:
    """Return the memory after a chunk, its outputs, and scores and decays to save.

    Args:
        memory: memory before the chunk.
        tokens: tokens of the chunk, `b c h ...`.
        segment: document starts in the chunk.
    """
    part, dot = _prepare(memory.dtype, tokens, segment)
    o = token_first(read_chunk(part, memory, dot), tokens.value)
    saved = (part.scores, part.decay)
    left = write_chunk(part.k, part.v, part.decay, dot)
    return keep(memory, part.decay) + left, o, saved


def read_chunk(
    part: Chunk, memory: Float[Array, "b h k v"], dot: Callable[..., Array]
) -> Float[Array, "b h c v"]:
    """Return the reads of a chunk.

    Args:
        part: the chunk.
        memory: memory before the chunk.
        dot: matrix product, called with an equation and two arrays.
    """
    o = scale(dot("bhik,bhkv->bhiv", part.q, memory), part.decay.carried)
    return o + dot("bhij,bhjv->bhiv", part.scores * part.decay.within, part.v)


def write_chunk(
    k: Float[Array, "b h c k"],
    v: Float[Array, "b h c v"],
    decay: ChunkDecay,
    dot: Callable[..., Array],
) -> Float[Array, "b h k v"]:
    """Return the sum that a chunk adds to the memory."""
    return dot("bhjk,bhjv->bhkv", k, scale(v, decay.remaining))


def chunk_backward(
    memory: Float[Array, "b h k v"],
    tokens: ScalarDecayTokens,
    segment: Int[Array, "b c"] | None,
    saved: tuple[Float[Array, "b h c c"], ChunkDecay],
    memory_cotangent: Float[Array, "b h k v"],
    o_cotangent: Float[Array, "b c h v"],
) -> tuple[Float[Array, "b h k v"], ScalarDecayTokens]:
    """Return the cotangents of the memory before a chunk and of its tokens.

    Args:
        memory: memory before the chunk.
        tokens: as in `chunk`.
        segment: document starts in the chunk.
        saved: scores and decays that the forward pass saved.
        memory_cotangent: cotangent of the memory after the chunk.
        o_cotangent: cotangent of the outputs.
    """
    part, dot = _prepare(memory.dtype, tokens, segment, saved)
    decay = part.decay
    do = jnp.swapaxes(o_cotangent, 1, 2).astype(memory.dtype)
    left = scale(dot("bhjk,bhkv->bhjv", part.k, memory_cotangent), decay.remaining)
    dv = dot("bhij,bhiv->bhjv", part.scores * decay.within, do) + left
    pulled = dot("bhiv,bhkv->bhik", do, memory)
    dscores = dot("bhiv,bhjv->bhij", do, part.v) * decay.within
    dq = scale(pulled, decay.carried) + dot("bhij,bhjk->bhik", dscores, part.k)
    remaining = scale(part.v, decay.remaining)
    dk = dot("bhij,bhik->bhjk", dscores, part.q)
    dk = dk + dot("bhjv,bhkv->bhjk", remaining, memory_cotangent)
    dmemory = dot("bhik,bhiv->bhkv", part.q, scale(do, decay.carried))
    dlog_decay = None
    given = tokens[3] is not None
    if given and decay.carried is not None and decay.kept is not None:
        dlog_decay = log_decay_cotangent(
            dscores * part.scores,
            row_sum(pulled * part.q) * decay.carried,
            row_sum(left * part.v),
            row_sum(row_sum(memory * memory_cotangent)) * decay.kept,
        )
    cotangents = tokens_first((dq, dk, dv, dlog_decay), tokens)
    return keep(memory_cotangent, decay) + dmemory, cotangents


def linear_chunk(
    tokens: ScalarDecayTokens, segment: Int[Array, "b c"] | None, dtype: DTypeLike
) -> LinearChunk:
    """Return a chunk as a linear map of its values and of the memory before it.

    Args:
        tokens: tokens of the chunk, `b c h ...`.
        segment: document starts in the chunk.
        dtype: type of the memory.
    """
    part, _ = _prepare(dtype, tokens, segment)
    q, k, decay = part.q.astype(dtype), part.k.astype(dtype), part.decay
    return LinearChunk(
        reads=scale(q, decay.carried),
        within=part.scores * decay.within,
        writes=scale(k, decay.remaining),
        kept=decay.kept,
    )


def _prepare(
    dtype: DTypeLike,
    tokens: ScalarDecayTokens,
    segment: Int[Array, "b c"] | None,
    saved: tuple[Float[Array, "b h c c"], ChunkDecay] | None = None,
) -> tuple[Chunk, Any]:
    q, k, v, log_decay = tokens
    dot = partial(matrix_product, operand=jnp.result_type(q, k, v), accumulate=dtype)
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))
    if saved is None:
        if log_decay is not None:
            log_decay = jnp.swapaxes(log_decay, 1, 2)
        decay = chunk_decay(log_decay, segment, shape=q.shape[:3], dtype=dtype)
        saved = (dot("bhik,bhjk->bhij", q, k), decay)
    scores, decay = saved
    return Chunk(q, k, v.astype(dtype), decay, scores), dot


def all_chunks(
    tokens: ScalarDecayTokens,
    segments: Int[Array, "n b c"] | None,
    which: Int[Array, "b n"] | None,
    memory: Float[Array, "b *m h k v"],
) -> tuple[Float[Array, "n b c h v"], Float[Array, "b *m h k v"]]:
    """Return outputs and last memory; only what needs the memory is in the scan."""
    dtype = memory.dtype
    *inputs, log_decay = tokens
    q, k, v = (jnp.swapaxes(x, 2, 3) for x in inputs)
    if log_decay is not None:
        log_decay = jnp.swapaxes(log_decay, 2, 3)
    decay = chunk_decay(log_decay, segments, shape=q.shape[:4], dtype=dtype)
    dot = partial(matrix_product, operand=jnp.result_type(q, k, v), accumulate=dtype)
    left = dot("nbhjk,nbhjv->nbhkv", k, scale(v.astype(dtype), decay.remaining))

    def body(memories: Array, chunk: tuple):
        left, decay, chosen = chunk
        memory = take_memory(memories, chosen)
        return put_memory(memories, chosen, keep(memory, decay) + left), memory

    part = decay._replace(within=None, carried=None, remaining=None)
    chosen = None if which is None else which.T
    memory, before = jax.lax.scan(body, memory, (left, part, chosen))
    scores = dot("nbhik,nbhjk->nbhij", q, k) * decay.within
    o = scale(dot("nbhik,nbhkv->nbhiv", q, before), decay.carried)
    o = o + dot("nbhij,nbhjv->nbhiv", scores, v)
    return jnp.swapaxes(o, 2, 3).astype(v.dtype), memory


def write_all(
    tokens: ScalarDecayTokens, memory: Float[Array, "b h k v"]
) -> Float[Array, "b h k v"]:
    """Return the memory after a sequence by one matrix product, without outputs."""
    _, k, v, log_decay = tokens
    dtype = memory.dtype
    operand = jnp.result_type(k, v)
    if log_decay is not None:
        # Sum from the end: the last tokens decay least and must be exact.
        later = jnp.pad(log_decay.astype(dtype)[:, 1:], ((0, 0), (0, 1), (0, 0)))
        remaining = jax.lax.cumsum(later, axis=1, reverse=True)
        v = scale(v.astype(dtype), jnp.exp(remaining))
        kept = jnp.exp(jnp.sum(log_decay.astype(dtype), axis=1))
        memory = memory * kept[..., None, None]
    written = matrix_product("bthk,bthv->bhkv", k, v, operand=operand, accumulate=dtype)
    return memory + written


SCALAR_DECAY = Recurrence(
    tokens=ScalarDecayTokens,
    step=step,
    chunk=chunk,
    chunk_backward=chunk_backward,
    all_chunks=all_chunks,
    write_all=write_all,
    linear_chunk=linear_chunk,
)


def linear_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    *,
    log_decay: ArrayLike | None = None,
    memory: ArrayLike | None = None,
    reset: Bool[Array, "b t"] | None = None,
    chunk_size: int | None = None,
) -> tuple[Float[Array, "b t h v"], Float[Array, "b h k v"]]:
    """Return every token's read after its write, and the memory after the last token.

    Args:
        query: `b t h k`, scaled by the caller.
        key: `b t h k`.
        value: `b t h v`.
        log_decay: `b t h`, at most 0; None: no decay.
        memory: `b h k v`, memory before the first token; None: zeros.
        reset: True where a document begins and the memory restarts at zero.
        chunk_size: tokens per chunk; affects speed only. None: chosen for the backend.

    Raises:
        InputError: an array is not one of floats; an axis has two lengths, for example
            because heads come before time; or, outside jit, a log_decay is above 0.
    """
    return SCALAR_DECAY(
        (query, key, value, log_decay), memory, reset=reset, chunk_size=chunk_size
    )
