"""Linear attention whose memory decays by one factor per channel of the key.

S_t = diag(a_t) S_{t-1} + k_t v_t^T and o_t = S_t^T q_t (arXiv 2312.06635). With S the
memory before a chunk, Q and K decayed as in `channel_decay`, A their scores and g the
decay of the whole chunk:

    O = Q S + A V
    S' = diag(g) S + K^T V

The backward pass uses the saved S and A and recomputes the decays.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from .channel_decay import DecayedChunk, decay_chunk, keep, kept_cotangent
from .chunk_scan import put_memory, take_memory
from .matrix_product import matrix_product
from .recurrence import Recurrence, token_first, tokens_first


class VectorDecayTokens(NamedTuple):
    """Tokens of linear attention with one decay per channel.

    Attributes:
        query: queries, scaled by the caller.
        key: keys of any size.
        value: values, written at the keys.
        log_decay: logarithm of the decay of each channel of the key, at most 0; minus
            infinity erases it. None: no decay.
    """

    query: Float[Array, "b t h k"]
    key: Float[Array, "b t h k"]
    value: Float[Array, "b t h v"]
    log_decay: Float[Array, "b t h k"] | None = None


def step(
    token: VectorDecayTokens, memory: Float[Array, "b h k v"]
) -> tuple[Float[Array, "b h v"], Float[Array, "b h k v"]]:
    """Return one token's output (arrays without axis t) and the memory after it."""
    query, key, value = (x.astype(memory.dtype) for x in token[:3])
    if token.log_decay is not None:
        memory = memory * jnp.exp(token.log_decay.astype(memory.dtype))[..., None]
    memory = memory + key[..., :, None] * value[..., None, :]
    read = jnp.einsum("bhk,bhkv->bhv", query, memory)
    return read.astype(token.value.dtype), memory


def chunk(
    memory: Float[Array, "b h k v"],
    tokens: VectorDecayTokens,
    segment: Int[Array, "b c"] | None,
) -> tuple[Float[Array, "b h k v"], Float[Array, "b c h v"], Float[Array, "b h c c"]]:
    """Return the memory after a chunk, its outputs, and the scores.

    Args:
        memory: memory before the chunk.
        tokens: tokens of the chunk, `b c h ...`.
        segment: document starts in the chunk.
    """
    q, k, v, log_decay = _heads_first(tokens, memory)
    operand = jnp.result_type(*tokens[:3])
    dot = partial(matrix_product, operand=operand, accumulate=memory.dtype)
    part = decay_chunk((q,), k, log_decay, segment, operand=operand)
    o = dot("bhik,bhkv->bhiv", part.reads[0], memory)
    o = o + dot("bhij,bhjv->bhiv", part.scores[0], v)
    after = keep(memory, part.kept) + dot("bhjk,bhjv->bhkv", part.keys, v)
    return after, token_first(o, tokens.value), part.scores[0]


def chunk_backward(
    memory: Float[Array, "b h k v"],
    tokens: VectorDecayTokens,
    segment: Int[Array, "b c"] | None,
    scores: Float[Array, "b h c c"],
    memory_cotangent: Float[Array, "b h k v"],
    o_cotangent: Float[Array, "b c h v"],
) -> tuple[Float[Array, "b h k v"], VectorDecayTokens]:
    """Return the cotangents of the memory before a chunk and of its tokens.

    Args:
        memory: memory before the chunk.
        tokens: as in `chunk`.
        segment: document starts in the chunk.
        scores: scores that the forward pass saved.
        memory_cotangent: cotangent of the memory after the chunk.
        o_cotangent: cotangent of the outputs.
    """
    q, k, v, log_decay = _heads_first(tokens, memory)
    operand = jnp.result_type(*tokens[:3])
    dot = partial(matrix_product, operand=operand, accumulate=memory.dtype)
    part, pull = jax.vjp(
        lambda q, k, g: decay_chunk((q,), k, g, segment, operand=operand),
        q,
        k,
        log_decay,
    )
    do = jnp.swapaxes(o_cotangent, 1, 2).astype(memory.dtype)
    dv = dot("bhij,bhiv->bhjv", scores, do)
    dv = dv + dot("bhjk,bhkv->bhjv", part.keys, memory_cotangent)
    dq, dk, dlog_decay = pull(
        DecayedChunk(
            scores=(dot("bhiv,bhjv->bhij", do, v),),
            reads=(dot("bhiv,bhkv->bhik", do, memory),),
            keys=dot("bhjv,bhkv->bhjk", v, memory_cotangent),
            kept=kept_cotangent(memory, memory_cotangent, part.kept),
        )
    )
    before = keep(memory_cotangent, part.kept)
    before = before + dot("bhik,bhiv->bhkv", part.reads[0], do)
    return before, tokens_first((dq, dk, dv, dlog_decay), tokens)


def _heads_first(
    tokens: VectorDecayTokens, memory: Float[Array, "b *m h k v"]
) -> tuple[Any, ...]:
    return tuple(
        x if x is None else jnp.swapaxes(x, -3, -2).astype(memory.dtype) for x in tokens
    )


def all_chunks(
    tokens: VectorDecayTokens,
    segments: Int[Array, "n b c"] | None,
    which: Int[Array, "b n"] | None,
    memory: Float[Array, "b *m h k v"],
) -> tuple[Float[Array, "n b c h v"], Float[Array, "b *m h k v"]]:
    """Return outputs and last memory; only what needs the memory is in the scan."""
    q, k, v, log_decay = _heads_first(tokens, memory)
    operand = jnp.result_type(*tokens[:3])
    dot = partial(matrix_product, operand=operand, accumulate=memory.dtype)
    part = decay_chunk((q,), k, log_decay, segments, operand=operand)
    written = dot("nbhjk,nbhjv->nbhkv", part.keys, v)

    def body(memories: Array, chunk: tuple):
        written, kept, chosen = chunk
        memory = take_memory(memories, chosen)
        return put_memory(memories, chosen, keep(memory, kept) + written), memory

    chosen = None if which is None else which.T
    memory, before = jax.lax.scan(body, memory, (written, part.kept, chosen))
    o = dot("nbhik,nbhkv->nbhiv", part.reads[0], before)
    o = o + dot("nbhij,nbhjv->nbhiv", part.scores[0], v)
    return jnp.swapaxes(o, 2, 3).astype(tokens.value.dtype), memory


VECTOR_DECAY = Recurrence(
    tokens=VectorDecayTokens,
    step=step,
    chunk=chunk,
    chunk_backward=chunk_backward,
    all_chunks=all_chunks,
)


def gated_linear_attention(
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
        log_decay: `b t h k`, at most 0; None: no decay.
        memory: `b h k v`, memory before the first token; None: zeros.
        reset: True where a document begins and the memory restarts at zero.
        chunk_size: tokens per chunk; affects speed only. None: chosen for the backend.

    Raises:
        InputError: an array is not one of floats; an axis has two lengths, for example
            because heads come before time; or, outside jit, a log_decay is above 0.
    """
    return VECTOR_DECAY(
        (query, key, value, log_decay), memory, reset=reset, chunk_size=chunk_size
    )
