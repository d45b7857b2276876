"""The delta rule with keys that are preconditioned where values are written.

A diagonal estimate A of the keys' covariance rescales every key (arXiv 2604.21100):

    A_t = c_t A_{t-1} + g_t k_t * k_t
    r = log(A_t + 1e-6) - u,  z_t = k_t * 1.5^(-r / (1 + |r|))
    S'_t = diag(a_t) S_{t-1},  S_t = S'_t + z_t (v_t - S'_t^T e_t)^T,  o_t = S_t^T q_t

Channels of the key that were written more than others are written with smaller steps.
The factor is between 1 / 1.5 and 1.5. With z for k the memory is that of
`erase_write`, whose engine runs here.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from . import erase_write
from .chunk_decay import ChunkDecay, chunk_decay
from .chunk_scan import put_memory, take_memory
from .erase_write import EraseWriteTokens
from .recurrence import Recurrence

# The published range of the factor, and what is added before the logarithm.
_RANGE, _EPSILON = 1.5, 1e-6


class PreconditionedTokens(NamedTuple):
    """Tokens of the delta rule with preconditioned keys.

    Attributes:
        query: queries, scaled by the caller.
        key: keys before preconditioning.
        value: values, times the write strength or gate.
        erase: keys at which the memory is erased, times the strength or gate.
        covariance_strength: factor of the key's squares in the covariance.
        covariance_log_decay: logarithm of the covariance's decay, at most 0.
        centre: logarithm of the covariance at which a key keeps its length.
        log_decay: logarithm of the decay of each channel of the key, at most 0; its
            last axis is 1 for one decay per head. None: no decay.
    """

    query: Float[Array, "b t h k"]
    key: Float[Array, "b t h k"]
    value: Float[Array, "b t h v"]
    erase: Float[Array, "b t h k"]
    covariance_strength: Float[Array, "b t h"]
    covariance_log_decay: Float[Array, "b t h"]
    centre: Float[Array, "b t h"]
    log_decay: Float[Array, "b t h #k"] | None = None


class PreconditionedMemory(NamedTuple):
    """A memory and the diagonal of its keys' covariance."""

    memory: Float[Array, "b *m h k v"]
    covariance: Float[Array, "b *m h k"]


def step(
    token: PreconditionedTokens, memory: PreconditionedMemory
) -> tuple[Float[Array, "b h v"], PreconditionedMemory]:
    """Return one token's output (arrays without axis t) and the memory after it."""
    held, covariance = memory
    key, strength, log_decay, centre = (
        x.astype(covariance.dtype)
        for x in (
            token.key,
            token.covariance_strength,
            token.covariance_log_decay,
            token.centre,
        )
    )
    covariance = jnp.exp(log_decay)[..., None] * covariance
    covariance = covariance + strength[..., None] * key * key
    read, held = erase_write.step(
        _erase_write(token, key * _factor(covariance, centre)), held
    )
    return read, PreconditionedMemory(held, covariance)


def _factor(
    covariance: Float[Array, "*b k"], centre: Float[Array, "*b"]
) -> Float[Array, "*b k"]:
    """Return the factor of the keys, which falls as the covariance grows."""
    above = jnp.log(covariance + _EPSILON) - centre[..., None]
    return jnp.exp(-math.log(_RANGE) * above / (1 + jnp.abs(above)))


def _erase_write(tokens: PreconditionedTokens, key: Array) -> EraseWriteTokens:
    return EraseWriteTokens(
        query=tokens.query,
        key=key.astype(tokens.key.dtype),
        value=tokens.value,
        erase=tokens.erase,
        log_decay=tokens.log_decay,
    )


def _added(
    tokens: PreconditionedTokens, segment: Int[Array, "*axes c"] | None, like: Array
) -> tuple[ChunkDecay, Float[Array, "*axes h c k"]]:
    """Return the covariance's decays in a chunk, and what each token adds to it."""
    dtype = like.dtype
    log_decay = jnp.swapaxes(tokens.covariance_log_decay, -2, -1)
    decay = chunk_decay(log_decay, segment, shape=log_decay.shape, dtype=dtype)
    key = jnp.swapaxes(tokens.key, -3, -2).astype(dtype)
    strength = jnp.swapaxes(tokens.covariance_strength, -2, -1).astype(dtype)
    return decay, strength[..., None] * key * key


def _precondition(
    covariance: Float[Array, "*axes h k"],
    tokens: PreconditionedTokens,
    segment: Int[Array, "*axes c"] | None,
) -> tuple[EraseWriteTokens, Float[Array, "*axes h k"]]:
    """Return a chunk's tokens with preconditioned keys, and the covariance after it."""
    decay, added = _added(tokens, segment, covariance)
    assert decay.carried is not None
    held = decay.carried[..., None] * covariance[..., None, :]
    held = held + jnp.einsum(
        "...ij,...jk->...ik", decay.within, added, precision="highest"
    )
    centre = jnp.swapaxes(tokens.centre, -2, -1).astype(covariance.dtype)
    key = tokens.key.astype(covariance.dtype)
    key = key * jnp.swapaxes(_factor(held, centre), -3, -2)
    return _erase_write(tokens, key), _covariance_after(decay, covariance, added)


def _covariance_after(
    decay: ChunkDecay,
    covariance: Float[Array, "*axes h k"],
    added: Float[Array, "*axes h c k"],
) -> Float[Array, "*axes h k"]:
    """Return the covariance after a chunk."""
    assert decay.kept is not None
    remaining = decay.within[..., -1, :]
    return decay.kept[..., None] * covariance + jnp.einsum(
        "...j,...jk->...k", remaining, added, precision="highest"
    )


def chunk(
    memory: PreconditionedMemory,
    tokens: PreconditionedTokens,
    segment: Int[Array, "b c"] | None,
) -> tuple[PreconditionedMemory, Float[Array, "b c h v"], Any]:
    """Return the memory after a chunk, its outputs, and arrays for its gradient.

    Args:
        memory: memory before the chunk.
        tokens: tokens of the chunk, `b c h ...`.
        segment: document starts in the chunk.
    """
    plain, covariance = _precondition(memory.covariance, tokens, segment)
    held, o, saved = erase_write.chunk(memory.memory, plain, segment)
    return PreconditionedMemory(held, covariance), o, saved


def chunk_backward(
    memory: PreconditionedMemory,
    tokens: PreconditionedTokens,
    segment: Int[Array, "b c"] | None,
    saved: Any,
    memory_cotangent: PreconditionedMemory,
    o_cotangent: Float[Array, "b c h v"],
) -> tuple[PreconditionedMemory, PreconditionedTokens]:
    """Return the cotangents of the memory before a chunk and of its tokens.

    Args:
        memory: memory before the chunk.
        tokens: as in `chunk`.
        segment: document starts in the chunk.
        saved: arrays that the forward pass saved.
        memory_cotangent: cotangent of the memory after the chunk.
        o_cotangent: cotangent of the outputs.
    """
    (plain, _), pull = jax.vjp(
        partial(_precondition, segment=segment), memory.covariance, tokens
    )
    held, cotangents = erase_write.chunk_backward(
        memory.memory, plain, segment, saved, memory_cotangent.memory, o_cotangent
    )
    covariance, found = pull((cotangents, memory_cotangent.covariance))
    return PreconditionedMemory(held, covariance), found


def all_chunks(
    tokens: PreconditionedTokens,
    segments: Int[Array, "n b c"] | None,
    which: Int[Array, "b n"] | None,
    memory: PreconditionedMemory,
) -> tuple[Float[Array, "n b c h v"], PreconditionedMemory]:
    """Return outputs and last memory; only what needs the memory is in the scan."""
    decay, added = _added(tokens, segments, memory.covariance)

    def body(covariances: Array, inputs: tuple):
        decay, added, chosen = inputs
        before = take_memory(covariances, chosen)
        after = _covariance_after(decay, before, added)
        return put_memory(covariances, chosen, after), before

    chosen = None if which is None else which.T
    covariance, before = jax.lax.scan(body, memory.covariance, (decay, added, chosen))
    plain, _ = _precondition(before, tokens, segments)
    o, held = erase_write.all_chunks(plain, segments, which, memory.memory)
    return o, PreconditionedMemory(held, covariance)


_AXES: Any = ("b h k v", "b h k")

PRECONDITIONED_DELTA = Recurrence(
    tokens=PreconditionedTokens,
    memory_axes=PreconditionedMemory(*_AXES),
    step=step,
    chunk=chunk,
    chunk_backward=chunk_backward,
    all_chunks=all_chunks,
)
