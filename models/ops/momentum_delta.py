"""The delta rule with momentum.

M_t = m_t M_{t-1} + k_t (v_t - S_{t-1}^T e_t)^T, S_t = a_t S_{t-1} + b_t M_t and
o_t = S_t^T q_t (arXiv 2605.05838). The memory is read at e_t before it decays, the
error is written at k_t into the momentum, and the momentum is added to the memory. The
caller multiplies the size of the gradient step into k_t, and any decay of the memory
that is read into e_t.

Within a chunk with the memories S and M before it, all tokens are linear in S, M and
the errors r_j. With A, D the decays between tokens of the memory and of the momentum,

    G = A diag(b) D,  f = A (b * d)
    S_i = a_i S + f_i M + sum_j G_ij k_j r_j^T

where a_i and d_i are the decays from the start of the chunk. Primes mark the values of
the token before. The errors solve a triangular system, as in the delta rule:

    R = (I + G' * (E K^T))^-1 (V - a' E S - f' E M)
    O = a Q S + f Q M + (G * (Q K^T)) R
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float, Int

from .chunk_decay import ChunkDecay, chunk_decay
from .chunk_scan import put_memory, take_memory
from .matrix_product import matrix_product
from .recurrence import Recurrence
from .triangular import unit_lower_inverse


class MomentumDeltaTokens(NamedTuple):
    """Tokens of the delta rule with momentum.

    Attributes:
        query: queries, scaled by the caller.
        key: keys at which errors are written, times the size of the gradient step.
        value: values, the memory's targets.
        erase: keys at which the memory is read before the write.
        write_strength: factor of the momentum that is added to the memory.
        log_momentum: logarithm of the momentum's decay, at most 0; minus infinity: no
            momentum.
        log_decay: logarithm of the memory's decay, at most 0; minus infinity erases it.
            None: no decay.
    """

    query: Float[Array, "b t h k"]
    key: Float[Array, "b t h k"]
    value: Float[Array, "b t h v"]
    erase: Float[Array, "b t h k"]
    write_strength: Float[Array, "b t h"]
    log_momentum: Float[Array, "b t h"]
    log_decay: Float[Array, "b t h"] | None = None


class MomentumMemory(NamedTuple):
    """A memory and the momentum of its writes."""

    memory: Float[Array, "b *m h k v"]
    momentum: Float[Array, "b *m h k v"]


def step(
    token: MomentumDeltaTokens, memory: MomentumMemory
) -> tuple[Float[Array, "b h v"], MomentumMemory]:
    """Return one token's output (arrays without axis t) and the memory after it."""
    held, momentum = memory
    query, key, value, erase, strength, log_momentum = (
        x.astype(held.dtype) for x in token[:6]
    )
    error = value - jnp.einsum("bhk,bhkv->bhv", erase, held)
    momentum = jnp.exp(log_momentum)[..., None, None] * momentum
    momentum = momentum + key[..., :, None] * error[..., None, :]
    if token.log_decay is not None:
        decay = jnp.exp(token.log_decay.astype(held.dtype))
        held = held * decay[..., None, None]
    held = held + strength[..., None, None] * momentum
    read = jnp.einsum("bhk,bhkv->bhv", query, held)
    return read.astype(token.value.dtype), MomentumMemory(held, momentum)


class Coefficients(NamedTuple):
    """Factors of the parts of the memory after every token.

    Attributes:
        kept: factor of the chunk's first memory.
        pushed: factor of the chunk's first momentum.
        written: factor of the write of token j (last axis).
    """

    kept: Float[Array, "*axes h c"]
    pushed: Float[Array, "*axes h c"]
    written: Float[Array, "*axes h c c"]


class Writes(NamedTuple):
    """Factors with which a chunk changes the memory and the momentum.

    Attributes:
        keys: keys, times the factor of their error in the last memory.
        momentum_keys: keys, times the factor of their error in the last momentum.
        kept: factor of the first memory in the last.
        pushed: factor of the first momentum in the last memory.
        momentum_kept: factor of the first momentum in the last.
    """

    keys: Float[Array, "*axes h c k"]
    momentum_keys: Float[Array, "*axes h c k"]
    kept: Float[Array, "*axes h"]
    pushed: Float[Array, "*axes h"]
    momentum_kept: Float[Array, "*axes h"]


class Chunk(NamedTuple):
    """A chunk's arrays that do not depend on the memory.

    `queries` and `erases` read the memory and the momentum, joined along the keys.
    """

    queries: Float[Array, "*axes h c 2*k"]
    erases: Float[Array, "*axes h c 2*k"]
    values: Float[Array, "*axes h c v"]
    scores: Float[Array, "*axes h c c"]
    inverse: Float[Array, "*axes h c c"]
    writes: Writes


def chunk(
    memory: MomentumMemory,
    tokens: MomentumDeltaTokens,
    segment: Int[Array, "b c"] | None,
) -> tuple[MomentumMemory, Float[Array, "b c h v"], None]:
    """Return the memory after a chunk and its outputs.

    Args:
        memory: memory before the chunk.
        tokens: tokens of the chunk, `b c h ...`.
        segment: document starts in the chunk.
    """
    dot = _product(tokens, memory.memory.dtype)
    part = _prepare(tokens, segment, memory.memory.dtype)
    before = jnp.concatenate(memory, axis=-2)
    error = part.values - dot("bhik,bhkv->bhiv", part.erases, before)
    error = dot("bhij,bhjv->bhiv", part.inverse, error)
    o = dot("bhik,bhkv->bhiv", part.queries, before)
    o = o + dot("bhij,bhjv->bhiv", part.scores, error)
    o = jnp.swapaxes(o, 1, 2).astype(tokens.value.dtype)
    return _after(memory, part.writes, error, dot), o, None


def all_chunks(
    tokens: MomentumDeltaTokens,
    segments: Int[Array, "n b c"] | None,
    which: Int[Array, "b n"] | None,
    memory: MomentumMemory,
) -> tuple[Float[Array, "n b c h v"], MomentumMemory]:
    """Return outputs and last memory; only what needs the memory is in the scan."""
    dot = _product(tokens, memory.memory.dtype)
    part = _prepare(tokens, segments, memory.memory.dtype)
    fresh = dot("nbhij,nbhjv->nbhiv", part.inverse, part.values)
    erasing = dot("nbhij,nbhjk->nbhik", part.inverse, part.erases)

    def body(memories: MomentumMemory, inputs: tuple):
        writes, fresh, erasing, chosen = inputs
        memory = take_memory(memories, chosen)
        before = jnp.concatenate(memory, axis=-2)
        error = fresh - dot("bhik,bhkv->bhiv", erasing, before)
        after = _after(memory, writes, error, dot)
        return put_memory(memories, chosen, after), (before, error)

    chosen = None if which is None else which.T
    inputs = (part.writes, fresh, erasing, chosen)
    memory, (before, error) = jax.lax.scan(body, memory, inputs)
    o = dot("nbhik,nbhkv->nbhiv", part.queries, before)
    o = o + dot("nbhij,nbhjv->nbhiv", part.scores, error)
    return jnp.swapaxes(o, 2, 3).astype(tokens.value.dtype), memory


def _product(tokens: MomentumDeltaTokens, dtype: DTypeLike) -> Any:
    operand = jnp.result_type(*tokens[:4])
    return partial(matrix_product, operand=operand, accumulate=dtype)


def _prepare(
    tokens: MomentumDeltaTokens,
    segment: Int[Array, "*axes c"] | None,
    dtype: DTypeLike,
) -> Chunk:
    """Return what a chunk `*axes c h ...` needs besides the memory before it."""
    q, k, v, e = (jnp.swapaxes(x, -3, -2).astype(dtype) for x in tokens[:4])
    strength = jnp.swapaxes(tokens.write_strength, -2, -1).astype(dtype)
    dot = _product(tokens, dtype)

    def decays(log_decay: Array | None) -> ChunkDecay:
        if log_decay is not None:
            log_decay = jnp.swapaxes(log_decay, -2, -1)
        return chunk_decay(log_decay, segment, shape=strength.shape, dtype=dtype)

    momentum = decays(tokens.log_momentum)
    now = _coefficients(decays(tokens.log_decay), momentum, strength)
    before = _before(now, segment)

    def reads(x: Array, part: Coefficients) -> Array:
        factors = part.kept[..., None] * x, part.pushed[..., None] * x
        return jnp.concatenate(factors, axis=-1)

    def scores(x: Array, part: Coefficients) -> Array:
        return part.written * dot("...ik,...jk->...ij", x, k)

    return Chunk(
        queries=reads(q, now),
        erases=reads(e, before),
        values=v,
        scores=scores(q, now),
        inverse=unit_lower_inverse(scores(e, before)),
        writes=Writes(
            keys=now.written[..., -1, :, None] * k,
            momentum_keys=momentum.within[..., -1, :, None] * k,
            kept=now.kept[..., -1],
            pushed=now.pushed[..., -1],
            momentum_kept=_carried(momentum, strength)[..., -1],
        ),
    )


def _carried(
    decay: ChunkDecay, like: Float[Array, "*axes h c"]
) -> Float[Array, "*axes h c"]:
    """Return the decays from the start of the chunk, one where nothing decays."""
    if decay.carried is None:
        return jnp.ones_like(like)
    return jnp.broadcast_to(decay.carried, like.shape)


def _coefficients(
    decay: ChunkDecay, momentum: ChunkDecay, strength: Float[Array, "*axes h c"]
) -> Coefficients:
    stepped = jnp.broadcast_to(decay.within, momentum.within.shape)
    stepped = stepped * strength[..., None, :]
    product = partial(jnp.einsum, precision="highest")
    carried = _carried(momentum, strength)
    return Coefficients(
        kept=_carried(decay, strength),
        pushed=product("...ij,...j->...i", stepped, carried),
        written=product("...ij,...jl->...il", stepped, momentum.within),
    )


def _before(now: Coefficients, segment: Int[Array, "*axes c"] | None) -> Coefficients:
    """Return the coefficients before every token instead of after it."""

    def shift(x: Array, axis: int, first: float) -> Array:
        start = jnp.full_like(jax.lax.slice_in_dim(x, 0, 1, axis=axis), first)
        rest = jax.lax.slice_in_dim(x, 0, x.shape[axis] - 1, axis=axis)
        return jnp.concatenate([start, rest], axis=axis)

    kept, pushed, written = now
    last = written.ndim - 2
    before = Coefficients(
        shift(kept, kept.ndim - 1, 1), shift(pushed, last, 0), shift(written, last, 0)
    )
    if segment is None:
        return before
    # A document's first token reads nothing of the document before it.
    same = segment == shift(segment, segment.ndim - 1, 0)
    same = same[..., None, :]
    return Coefficients(
        jnp.where(same, before.kept, 0),
        jnp.where(same, before.pushed, 0),
        jnp.where(same[..., None], before.written, 0),
    )


def _after(
    memory: MomentumMemory, writes: Writes, error: Float[Array, "b h c v"], dot: Any
) -> MomentumMemory:
    held, momentum = memory
    kept, pushed, momentum_kept = (
        x[..., None, None] for x in (writes.kept, writes.pushed, writes.momentum_kept)
    )
    return MomentumMemory(
        kept * held + pushed * momentum + dot("bhjk,bhjv->bhkv", writes.keys, error),
        momentum_kept * momentum + dot("bhjk,bhjv->bhkv", writes.momentum_keys, error),
    )


_AXES: Any = ("b h k v", "b h k v")

MOMENTUM_DELTA = Recurrence(
    tokens=MomentumDeltaTokens,
    memory_axes=MomentumMemory(*_AXES),
    step=step,
    chunk=chunk,
    all_chunks=all_chunks,
)


def momentum_delta_rule(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    *,
    erase: ArrayLike,
    write_strength: ArrayLike,
    log_momentum: ArrayLike,
    log_decay: ArrayLike | None = None,
    memory: MomentumMemory | None = None,
    reset: Bool[Array, "b t"] | None = None,
    chunk_size: int | None = None,
) -> tuple[Float[Array, "b t h v"], MomentumMemory]:
    """Return every token's read after its write, and the memory after the last token.

    Args:
        query: `b t h k`, scaled by the caller.
        key: `b t h k`, times the size of the gradient step.
        value: `b t h v`.
        erase: `b t h k`, keys at which the memory is read before the write.
        write_strength: `b t h`, factor of the momentum that is added to the memory.
        log_momentum: `b t h`, at most 0.
        log_decay: `b t h`, at most 0; None: no decay.
        memory: memory and momentum before the first token, `b h k v` each; None: zeros.
        reset: True where a document begins and the memory restarts at zero.
        chunk_size: tokens per chunk; affects speed only. None: chosen for the backend.

    Raises:
        InputError: an axis has two lengths, for example because heads come before time.
    """
    return MOMENTUM_DELTA(
        (query, key, value, erase, write_strength, log_momentum, log_decay),
        memory,
        reset=reset,
        chunk_size=chunk_size,
    )
