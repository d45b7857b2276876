"""The delta rule with separate keys for erasing and writing.

S'_t = diag(a_t) S_{t-1}, S_t = S'_t + k_t (v_t - S'_t^T e_t)^T and o_t = S_t^T q_t: the
memory decays per channel or per head, is read at e_t, and the difference is written at
k_t. The caller multiplies strengths and gates into k, e and v. With a strength b, a key
u of length 1, a value x and gates f (erase) and w (write) the layers are

    delta rule        k = u       e = b u      v = b x
    KDA               k = u       e = b u      v = b x      a_t by channel
    Gated DeltaNet-2  k = u       e = f * u    v = w * x    a_t by channel
    Comba             k = u       e = b p      v = b x      p: a separate key

With S the memory before a chunk, the reads and keys decayed as in `channel_decay`, A_q
and A_e the scores of queries and erasing keys, and g the decay of the whole chunk:

    W = (I + strict(A_e))^-1 (V - E S)
    O = Q S + A_q W
    S' = diag(g) S + K^T W

The backward pass uses the saved S, W, A_q and inverse.
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
from .triangular import unit_lower_inverse


class EraseWriteTokens(NamedTuple):
    """Tokens of the delta rule with two keys.

    Attributes:
        query: queries, scaled by the caller.
        key: keys at which values are written.
        value: values, times the write strength or gate.
        erase: keys at which the memory is erased, times the strength or gate. The
            memory stays bounded while `erase` times `key` is 0 to 2 and both have the
            same direction.
        log_decay: logarithm of the decay of each channel of the key, at most 0; minus
            infinity erases it. Its last axis is 1 for one decay per head. None: no
            decay.
    """

    query: Float[Array, "b t h k"]
    key: Float[Array, "b t h k"]
    value: Float[Array, "b t h v"]
    erase: Float[Array, "b t h k"]
    log_decay: Float[Array, "b t h #k"] | None = None


def step(
    token: EraseWriteTokens, memory: Float[Array, "b h k v"]
) -> tuple[Float[Array, "b h v"], Float[Array, "b h k v"]]:
    """Return one token's output (arrays without axis t) and the memory after it."""
    query, key, value, erase = (x.astype(memory.dtype) for x in token[:4])
    if token.log_decay is not None:
        memory = memory * jnp.exp(token.log_decay.astype(memory.dtype))[..., None]
    write = value - jnp.einsum("bhk,bhkv->bhv", erase, memory)
    memory = memory + key[..., :, None] * write[..., None, :]
    read = jnp.einsum("bhk,bhkv->bhv", query, memory)
    return read.astype(token.value.dtype), memory


class Saved(NamedTuple):
    """Arrays saved for the backward pass of a chunk."""

    write: Float[Array, "b h c v"]
    scores: Float[Array, "b h c c"]
    inverse: Float[Array, "b h c c"]


def chunk(
    memory: Float[Array, "b h k v"],
    tokens: EraseWriteTokens,
    segment: Int[Array, "b c"] | None,
) -> tuple[Float[Array, "b h k v"], Float[Array, "b c h v"], Saved]:
    """Return the memory after a chunk, its outputs, and arrays for its gradient.

    Args:
        memory: memory before the chunk.
        tokens: tokens of the chunk, `b c h ...`.
        segment: document starts in the chunk.
    """
    q, k, v, e, log_decay = _heads_first(tokens, memory)
    operand = jnp.result_type(*tokens[:4])
    dot = partial(matrix_product, operand=operand, accumulate=memory.dtype)
    part = decay_chunk((q, e), k, log_decay, segment, operand=operand)
    inverse = unit_lower_inverse(jnp.tril(part.scores[1], -1))
    error = v - dot("bhik,bhkv->bhiv", part.reads[1], memory)
    write = dot("bhij,bhjv->bhiv", inverse, error)
    o = dot("bhik,bhkv->bhiv", part.reads[0], memory)
    o = o + dot("bhij,bhjv->bhiv", part.scores[0], write)
    after = keep(memory, part.kept) + dot("bhjk,bhjv->bhkv", part.keys, write)
    return after, token_first(o, tokens.value), Saved(write, part.scores[0], inverse)


def chunk_backward(
    memory: Float[Array, "b h k v"],
    tokens: EraseWriteTokens,
    segment: Int[Array, "b c"] | None,
    saved: Saved,
    memory_cotangent: Float[Array, "b h k v"],
    o_cotangent: Float[Array, "b c h v"],
) -> tuple[Float[Array, "b h k v"], EraseWriteTokens]:
    """Return the cotangents of the memory before a chunk and of its tokens.

    Args:
        memory: memory before the chunk.
        tokens: as in `chunk`.
        segment: document starts in the chunk.
        saved: arrays that the forward pass saved.
        memory_cotangent: cotangent of the memory after the chunk.
        o_cotangent: cotangent of the outputs.
    """
    q, k, _, e, log_decay = _heads_first(tokens, memory)
    operand = jnp.result_type(*tokens[:4])
    dot = partial(matrix_product, operand=operand, accumulate=memory.dtype)
    part, pull = jax.vjp(
        lambda q, e, k, g: decay_chunk((q, e), k, g, segment, operand=operand),
        q,
        e,
        k,
        log_decay,
    )
    write, scores, inverse = saved
    do = jnp.swapaxes(o_cotangent, 1, 2).astype(memory.dtype)
    dwrite = dot("bhij,bhiv->bhjv", scores, do)
    dwrite = dwrite + dot("bhjk,bhkv->bhjv", part.keys, memory_cotangent)
    # Cotangent of the triangular system's right-hand side, V - E S.
    dv = dot("bhij,bhiv->bhjv", inverse, dwrite)
    dreads = jnp.concatenate([do, -dv], axis=2)
    size = k.shape[2]
    dscores = dot("bhiv,bhjv->bhij", dreads, write)
    dcarried = dot("bhiv,bhkv->bhik", dreads, memory)
    dq, de, dk, dlog_decay = pull(
        DecayedChunk(
            scores=(dscores[:, :, :size], jnp.tril(dscores[:, :, size:], -1)),
            reads=(dcarried[:, :, :size], dcarried[:, :, size:]),
            keys=dot("bhjv,bhkv->bhjk", write, memory_cotangent),
            kept=kept_cotangent(memory, memory_cotangent, part.kept),
        )
    )
    reads = jnp.concatenate(part.reads, axis=2)
    before = keep(memory_cotangent, part.kept)
    before = before + dot("bhik,bhiv->bhkv", reads, dreads)
    return before, tokens_first((dq, dk, dv, de, dlog_decay), tokens)


def all_chunks(
    tokens: EraseWriteTokens,
    segments: Int[Array, "n b c"] | None,
    which: Int[Array, "b n"] | None,
    memory: Float[Array, "b *m h k v"],
) -> tuple[Float[Array, "n b c h v"], Float[Array, "b *m h k v"]]:
    """Return outputs and last memory; only what needs the memory is in the scan."""
    q, k, v, e, log_decay = _heads_first(tokens, memory)
    operand = jnp.result_type(*tokens[:4])
    dot = partial(matrix_product, operand=operand, accumulate=memory.dtype)
    part = decay_chunk((q, e), k, log_decay, segments, operand=operand)
    inverse = unit_lower_inverse(jnp.tril(part.scores[1], -1))
    fresh = dot("nbhij,nbhjv->nbhiv", inverse, v)
    erasing = dot("nbhij,nbhjk->nbhik", inverse, part.reads[1])

    def body(memories: Array, chunk: tuple):
        keys, fresh, erasing, kept, chosen = chunk
        memory = take_memory(memories, chosen)
        write = fresh - dot("bhik,bhkv->bhiv", erasing, memory)
        after = keep(memory, kept) + dot("bhjk,bhjv->bhkv", keys, write)
        return put_memory(memories, chosen, after), (memory, write)

    chosen = None if which is None else which.T
    inputs = (part.keys, fresh, erasing, part.kept, chosen)
    memory, (before, write) = jax.lax.scan(body, memory, inputs)
    o = dot("nbhik,nbhkv->nbhiv", part.reads[0], before)
    o = o + dot("nbhij,nbhjv->nbhiv", part.scores[0], write)
    return jnp.swapaxes(o, 2, 3).astype(tokens.value.dtype), memory


def _heads_first(
    tokens: EraseWriteTokens, memory: Float[Array, "b *m h k v"]
) -> tuple[Any, ...]:
    return tuple(
        x if x is None else jnp.swapaxes(x, -3, -2).astype(memory.dtype) for x in tokens
    )


ERASE_WRITE = Recurrence(
    tokens=EraseWriteTokens,
    step=step,
    chunk=chunk,
    chunk_backward=chunk_backward,
    all_chunks=all_chunks,
)


def erase_write_rule(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    *,
    erase: ArrayLike,
    log_decay: ArrayLike | None = None,
    memory: ArrayLike | None = None,
    reset: Bool[Array, "b t"] | None = None,
    chunk_size: int | None = None,
) -> tuple[Float[Array, "b t h v"], Float[Array, "b h k v"]]:
    """Return every token's read after its write, and the memory after the last token.

    The table above lists the keys and values of KDA, Gated DeltaNet-2 and Comba.

    Args:
        query: `b t h k`, scaled by the caller.
        key: `b t h k`, keys at which values are written.
        value: `b t h v`, times the write strength or gate.
        erase: `b t h k`, keys at which the memory is erased.
        log_decay: `b t h k`, or `b t h 1` for one decay per head, at most 0; None: no
            decay.
        memory: `b h k v`, memory before the first token; None: zeros.
        reset: True where a document begins and the memory restarts at zero.
        chunk_size: tokens per chunk; affects speed only. None: chosen for the backend.

    Raises:
        InputError: an array is not one of floats; an axis has two lengths, for example
            because heads come before time; or, outside jit, a log_decay is above 0.
    """
    return ERASE_WRITE(
        (query, key, value, erase, log_decay),
        memory,
        reset=reset,
        chunk_size=chunk_size,
    )
