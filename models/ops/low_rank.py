"""A memory whose transition is a diagonal matrix plus one of rank one.

S_t = diag(a_t) S_{t-1} + w_t (S_{t-1}^T r_t)^T + k_t v_t^T and o_t = S_t^T q_t
(arXiv:2503.14456): the memory is read at r_t before it decays, and the result is
written at w_t. In `erase_write` the memory is read after its decay, and one key serves
both writes, so that operation does not cover this one.

The read at r_t of the memory before token t is a read at token t - 1. In a chunk, r is
therefore moved up by one row, and the first r reads the memory before the chunk. With S
that memory, the reads and keys decayed as in `channel_decay`, and A_xy the scores of
reads x with keys y:

    U = (I - A_rw)^-1 (A_rk V + R S)
    O = Q S + A_qk V + A_qw U
    S' = diag(g) S + K^T V + W^T U

The backward pass uses the saved S, U, three of the scores and the inverse.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float, Int

from .channel_decay import decay_chunk, keep, kept_cotangent
from .chunk_scan import put_memory, take_memory
from .matrix_product import matrix_product
from .recurrence import Recurrence, token_first, tokens_first
from .triangular import unit_lower_inverse


class LowRankTokens(NamedTuple):
    """Tokens of a memory with a low-rank transition.

    Attributes:
        query: queries, scaled by the caller.
        key: keys at which values are written.
        value: values.
        read_key: keys r at which the memory is read before it decays.
        write_key: keys w at which that read is written. With r = -u, w = b u, a key u
            of length 1 and no decay, the memory at u shrinks by the factor 1 - b.
        log_decay: logarithm of the decay of each channel of the key, at most 0; minus
            infinity erases it. Its last axis is 1 for one decay per head. None: no
            decay.
    """

    query: Float[Array, "b t h k"]
    key: Float[Array, "b t h k"]
    value: Float[Array, "b t h v"]
    read_key: Float[Array, "b t h k"]
    write_key: Float[Array, "b t h k"]
    log_decay: Float[Array, "b t h #k"] | None = None


def step(
    token: LowRankTokens, memory: Float[Array, "b h k v"]
) -> tuple[Float[Array, "b h v"], Float[Array, "b h k v"]]:
    """Return one token's output (arrays without axis t) and the memory after it."""
    query, key, value, read, write = (x.astype(memory.dtype) for x in token[:5])
    found = jnp.einsum("bhk,bhkv->bhv", read, memory)
    if token.log_decay is not None:
        memory = memory * jnp.exp(token.log_decay.astype(memory.dtype))[..., None]
    memory = memory + write[..., :, None] * found[..., None, :]
    memory = memory + key[..., :, None] * value[..., None, :]
    output = jnp.einsum("bhk,bhkv->bhv", query, memory)
    return output.astype(token.value.dtype), memory


class Chunk(NamedTuple):
    """Everything of a chunk that does not need its memory.

    Attributes:
        query_key: scores of queries with keys; the next three are named alike.
        query_write: scores of queries with write keys.
        read_key: scores of read keys with keys, zero for j >= i.
        read_write: scores of read keys with write keys, zero for j >= i.
        queries: queries, decayed from the chunk's first memory.
        reads: read keys, decayed from the chunk's first memory to the token before.
        keys: keys, decayed to the chunk's last memory.
        writes: write keys, decayed likewise.
        kept: factor of the chunk's first memory in its last; None: one.
    """

    query_key: Float[Array, "*axes c c"]
    query_write: Float[Array, "*axes c c"]
    read_key: Float[Array, "*axes c c"]
    read_write: Float[Array, "*axes c c"]
    queries: Float[Array, "*axes c k"]
    reads: Float[Array, "*axes c k"]
    keys: Float[Array, "*axes c k"]
    writes: Float[Array, "*axes c k"]
    kept: Float[Array, "*#axes #k"] | None


def _prepare(
    query: Float[Array, "*axes h c k"],
    key: Float[Array, "*axes h c k"],
    read: Float[Array, "*axes h c k"],
    write: Float[Array, "*axes h c k"],
    log_decay: Float[Array, "*axes h c #k"] | None,
    *,
    segment: Int[Array, "*axes c"] | None,
    operand: DTypeLike,
) -> Chunk:
    """Return the scores and the decayed reads and keys of a chunk."""
    if segment is not None:
        # The memory before a document's first token is zero.
        before = jnp.pad(segment, [(0, 0)] * (segment.ndim - 1) + [(1, 0)])[..., :-1]
        read = jnp.where((segment == before)[..., None, :, None], read, 0)
    above = jnp.concatenate([read[..., 1:, :], jnp.zeros_like(read[..., :1, :])], -2)
    given = {"log_decay": log_decay, "segment": segment, "operand": operand}
    with_keys = decay_chunk((query, above), key, **given)
    with_writes = decay_chunk((query, above), write, **given)

    def below(first: Array, rows: Array) -> Array:
        return jnp.concatenate([first, rows[..., :-1, :]], axis=-2)

    def strict(scores: Array) -> Array:
        return below(jnp.zeros_like(scores[..., :1, :]), scores)

    return Chunk(
        query_key=with_keys.scores[0],
        query_write=with_writes.scores[0],
        read_key=strict(with_keys.scores[1]),
        read_write=strict(with_writes.scores[1]),
        queries=with_keys.reads[0],
        reads=below(read[..., :1, :], with_keys.reads[1]),
        keys=with_keys.keys,
        writes=with_writes.keys,
        kept=with_keys.kept,
    )


class Saved(NamedTuple):
    """Arrays saved for the backward pass of a chunk; `found` are the reads U."""

    found: Float[Array, "b h c v"]
    query_key: Float[Array, "b h c c"]
    query_write: Float[Array, "b h c c"]
    read_key: Float[Array, "b h c c"]
    inverse: Float[Array, "b h c c"]


def chunk(
    memory: Float[Array, "b h k v"],
    tokens: LowRankTokens,
    segment: Int[Array, "b c"] | None,
) -> tuple[Float[Array, "b h k v"], Float[Array, "b c h v"], Saved]:
    """Return the memory after a chunk, its outputs, and arrays for its gradient.

    Args:
        memory: memory before the chunk.
        tokens: tokens of the chunk, `b c h ...`.
        segment: document starts in the chunk.
    """
    (q, k, v, r, w, log_decay), operand, dot = _heads_first(tokens, memory)
    part = _prepare(q, k, r, w, log_decay, segment=segment, operand=operand)
    inverse = unit_lower_inverse(-part.read_write)
    right = dot("bhij,bhjv->bhiv", part.read_key, v)
    right = right + dot("bhik,bhkv->bhiv", part.reads, memory)
    found = dot("bhij,bhjv->bhiv", inverse, right)
    o = dot("bhik,bhkv->bhiv", part.queries, memory)
    o = o + dot("bhij,bhjv->bhiv", part.query_key, v)
    o = o + dot("bhij,bhjv->bhiv", part.query_write, found)
    after = keep(memory, part.kept) + dot("bhjk,bhjv->bhkv", part.keys, v)
    after = after + dot("bhjk,bhjv->bhkv", part.writes, found)
    saved = Saved(found, part.query_key, part.query_write, part.read_key, inverse)
    return after, token_first(o, tokens.value), saved


def chunk_backward(
    memory: Float[Array, "b h k v"],
    tokens: LowRankTokens,
    segment: Int[Array, "b c"] | None,
    saved: Saved,
    memory_cotangent: Float[Array, "b h k v"],
    o_cotangent: Float[Array, "b c h v"],
) -> tuple[Float[Array, "b h k v"], LowRankTokens]:
    """Return the cotangents of the memory before a chunk and of its tokens.

    Args:
        memory: memory before the chunk.
        tokens: as in `chunk`.
        segment: document starts in the chunk.
        saved: arrays that the forward pass saved.
        memory_cotangent: cotangent of the memory after the chunk.
        o_cotangent: cotangent of the outputs.
    """
    (q, k, v, r, w, log_decay), operand, dot = _heads_first(tokens, memory)
    prepare = partial(_prepare, segment=segment, operand=operand)
    part, pull = jax.vjp(prepare, q, k, r, w, log_decay)
    do = jnp.swapaxes(o_cotangent, 1, 2).astype(memory.dtype)
    dfound = dot("bhij,bhiv->bhjv", saved.query_write, do)
    dfound = dfound + dot("bhjk,bhkv->bhjv", part.writes, memory_cotangent)
    # Cotangent of the triangular system's right-hand side, A_rk V + R S.
    dright = dot("bhij,bhiv->bhjv", saved.inverse, dfound)
    dv = dot("bhij,bhiv->bhjv", saved.query_key, do)
    dv = dv + dot("bhij,bhiv->bhjv", saved.read_key, dright)
    dv = dv + dot("bhjk,bhkv->bhjv", part.keys, memory_cotangent)
    dq, dk, dr, dw, dlog_decay = pull(
        Chunk(
            query_key=dot("bhiv,bhjv->bhij", do, v),
            query_write=dot("bhiv,bhjv->bhij", do, saved.found),
            read_key=dot("bhiv,bhjv->bhij", dright, v),
            read_write=dot("bhiv,bhjv->bhij", dright, saved.found),
            queries=dot("bhiv,bhkv->bhik", do, memory),
            reads=dot("bhiv,bhkv->bhik", dright, memory),
            keys=dot("bhjv,bhkv->bhjk", v, memory_cotangent),
            writes=dot("bhjv,bhkv->bhjk", saved.found, memory_cotangent),
            kept=kept_cotangent(memory, memory_cotangent, part.kept),
        )
    )
    before = keep(memory_cotangent, part.kept)
    before = before + dot("bhik,bhiv->bhkv", part.queries, do)
    before = before + dot("bhik,bhiv->bhkv", part.reads, dright)
    return before, tokens_first((dq, dk, dv, dr, dw, dlog_decay), tokens)


def all_chunks(
    tokens: LowRankTokens,
    segments: Int[Array, "n b c"] | None,
    which: Int[Array, "b n"] | None,
    memory: Float[Array, "b *m h k v"],
) -> tuple[Float[Array, "n b c h v"], Float[Array, "b *m h k v"]]:
    """Return outputs and last memory; only what needs the memory is in the scan."""
    (q, k, v, r, w, log_decay), operand, dot = _heads_first(tokens, memory)
    part = _prepare(q, k, r, w, log_decay, segment=segments, operand=operand)
    inverse = unit_lower_inverse(-part.read_write)
    right = dot("nbhij,nbhjv->nbhiv", part.read_key, v)
    fresh = dot("nbhij,nbhjv->nbhiv", inverse, right)
    reads = dot("nbhij,nbhjk->nbhik", inverse, part.reads)
    added = dot("nbhjk,nbhjv->nbhkv", part.keys, v)

    def body(memories: Array, chunk: tuple):
        writes, added, fresh, reads, kept, chosen = chunk
        memory = take_memory(memories, chosen)
        found = fresh + dot("bhik,bhkv->bhiv", reads, memory)
        after = keep(memory, kept) + added + dot("bhjk,bhjv->bhkv", writes, found)
        return put_memory(memories, chosen, after), (memory, found)

    chosen = None if which is None else which.T
    inputs = (part.writes, added, fresh, reads, part.kept, chosen)
    memory, (before, found) = jax.lax.scan(body, memory, inputs)
    o = dot("nbhik,nbhkv->nbhiv", part.queries, before)
    o = o + dot("nbhij,nbhjv->nbhiv", part.query_key, v)
    o = o + dot("nbhij,nbhjv->nbhiv", part.query_write, found)
    return jnp.swapaxes(o, 2, 3).astype(tokens.value.dtype), memory


def _heads_first(
    tokens: LowRankTokens, memory: Float[Array, "b *m h k v"]
) -> tuple[tuple[Any, ...], DTypeLike, Any]:
    """Return tokens with heads before time, the operands' type, and the product."""
    operand = jnp.result_type(*tokens[:5])
    moved = tuple(
        x if x is None else jnp.swapaxes(x, -3, -2).astype(memory.dtype) for x in tokens
    )
    dot = partial(matrix_product, operand=operand, accumulate=memory.dtype)
    return moved, operand, dot


LOW_RANK = Recurrence(
    tokens=LowRankTokens,
    step=step,
    chunk=chunk,
    chunk_backward=chunk_backward,
    all_chunks=all_chunks,
)


def low_rank_rule(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    *,
    read_key: ArrayLike,
    write_key: ArrayLike,
    log_decay: ArrayLike | None = None,
    memory: ArrayLike | None = None,
    reset: Bool[Array, "b t"] | None = None,
    chunk_size: int | None = None,
) -> tuple[Float[Array, "b t h v"], Float[Array, "b h k v"]]:
    """Return every token's read after its write, and the memory after the last token.

    Args:
        query: `b t h k`, scaled by the caller.
        key: `b t h k`, keys at which values are written.
        value: `b t h v`.
        read_key: `b t h k`, keys at which the memory is read before it decays.
        write_key: `b t h k`, keys at which that read is written.
        log_decay: `b t h k`, or `b t h 1` for one decay per head, at most 0; None: no
            decay.
        memory: `b h k v`, memory before the first token; None: zeros.
        reset: True where a document begins and the memory restarts at zero.
        chunk_size: tokens per chunk; affects speed only. None: chosen for the backend.

    Raises:
        InputError: an axis has two lengths, for example because heads come before time.
    """
    return LOW_RANK(
        (query, key, value, read_key, write_key, log_decay),
        memory,
        reset=reset,
        chunk_size=chunk_size,
    )
