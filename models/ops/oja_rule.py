"""Oja's rule: the delta rule with the roles of keys and values swapped.

S'_t = S_{t-1} diag(a_t), S_t = S'_t + w_t v_t^T with w_t = b_t (k_t - S'_t v_t), and
o_t = S_t^T q_t. The memory decays per channel of the value, is read at the value, and
the key's error is written there: a gradient step of size b_t on 1/2 |S v_t - k_t|^2.
The delta rule removes what is stored at the same key; this one removes what is stored
with the same value.

With S the memory before a chunk, d_ij the decays (a vector of the value's size) from
token j to i, d_i those from the start and d'_j those to the end:

    W = (I + L)^-1 b (K - S (d * V)),  L_ij = b_i sum_v v_iv d_ijv v_jv for j < i
    O_i = d_i * S^T q_i + sum_(j <= i) (q_i . w_j) d_ij * v_j
    S' = S diag(d_c) + sum_j w_j (d'_j * v_j)^T

A chunk holds every d_ij, so it is short.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from einops import rearrange
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from .chunk_decay import chunk_decay
from .recurrence import Recurrence
from .triangular import unit_lower_inverse


class OjaTokens(NamedTuple):
    """Tokens of Oja's rule.

    Attributes:
        query: queries, scaled by the caller.
        key: keys, written at the values.
        value: values, normalised by the caller.
        write_strength: size of the gradient step; the memory stays bounded if values
            have length 1 and this is at most 2.
        log_decay: logarithm of the decay of each channel of the value, at most 0; minus
            infinity erases it. Its last axis is 1 for one decay per head.
    """

    query: Float[Array, "b t h k"]
    key: Float[Array, "b t h k"]
    value: Float[Array, "b t h v"]
    write_strength: Float[Array, "b t h"]
    log_decay: Float[Array, "b t h #v"]


def step(
    token: OjaTokens, memory: Float[Array, "b h k v"]
) -> tuple[Float[Array, "b h v"], Float[Array, "b h k v"]]:
    """Return one token's output (arrays without axis t) and the memory after it."""
    query, key, value, strength, log_decay = (x.astype(memory.dtype) for x in token)
    memory = memory * jnp.exp(log_decay)[..., None, :]
    error = key - jnp.einsum("bhkv,bhv->bhk", memory, value)
    write = strength[..., None] * error
    memory = memory + write[..., :, None] * value[..., None, :]
    read = jnp.einsum("bhk,bhkv->bhv", query, memory)
    return read.astype(token.value.dtype), memory


def chunk(
    memory: Float[Array, "b h k v"],
    tokens: OjaTokens,
    segment: Int[Array, "b c"] | None,
) -> tuple[Float[Array, "b h k v"], Float[Array, "b c h v"], None]:
    """Return the memory after a chunk and its outputs.

    Args:
        memory: memory before the chunk.
        tokens: tokens of the chunk, `b c h ...`.
        segment: document starts in the chunk.
    """
    dtype = memory.dtype
    q, k, v = (jnp.swapaxes(x, 1, 2).astype(dtype) for x in tokens[:3])
    strength = jnp.swapaxes(tokens.write_strength, 1, 2).astype(dtype)
    within, carried, remaining, kept = _decays(tokens.log_decay.astype(dtype), segment)
    decayed = within * jnp.swapaxes(v, 2, 3)[..., None, :]
    erased = jnp.tril(jnp.einsum("bhiv,bhvij->bhij", v, decayed), -1)
    inverse = unit_lower_inverse(erased * strength[..., None])
    carried = jnp.swapaxes(carried, 2, 3)
    error = k - jnp.einsum("bhkv,bhiv->bhik", memory, carried * v)
    write = jnp.einsum("bhij,bhjk->bhik", inverse, strength[..., None] * error)
    o = carried * jnp.einsum("bhik,bhkv->bhiv", q, memory)
    pairs = jnp.einsum("bhik,bhjk->bhij", q, write)
    o = o + jnp.einsum("bhij,bhvij->bhiv", pairs, decayed)
    left = jnp.einsum("bhjk,bhjv->bhkv", write, jnp.swapaxes(remaining, 2, 3) * v)
    o = jnp.swapaxes(o, 1, 2).astype(tokens.value.dtype)
    return memory * kept[:, :, None, :] + left, o, None


def _decays(
    log_decay: Float[Array, "b c h v"], segment: Int[Array, "b c"] | None
) -> list[Any]:
    """Return the fields of `ChunkDecay`, with the channels as an axis after heads."""
    heads = log_decay.shape[2]
    log_decay = rearrange(log_decay, "b c h v -> b (h v) c")
    found = chunk_decay(
        log_decay, segment, shape=log_decay.shape, dtype=log_decay.dtype
    )
    return [rearrange(x, "b (h v) ... -> b h v ...", h=heads) for x in found]


OJA_RULE = Recurrence(tokens=OjaTokens, step=step, chunk=chunk, chunk_size=(16, 16))


def gated_oja_rule(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    *,
    write_strength: ArrayLike,
    log_decay: ArrayLike,
    memory: ArrayLike | None = None,
    reset: Bool[Array, "b t"] | None = None,
    chunk_size: int | None = None,
) -> tuple[Float[Array, "b t h v"], Float[Array, "b h k v"]]:
    """Return every token's read after its write, and the memory after the last token.

    Args:
        query: `b t h k`, scaled by the caller.
        key: `b t h k`.
        value: `b t h v`, normalised by the caller.
        write_strength: `b t h`, see `OjaTokens`.
        log_decay: `b t h v`, or `b t h 1` for one decay per head, at most 0.
        memory: `b h k v`, memory before the first token; None: zeros.
        reset: True where a document begins and the memory restarts at zero.
        chunk_size: tokens per chunk; affects speed and memory only. None: 16.

    Raises:
        InputError: an axis has two lengths, for example because heads come before time.
    """
    return OJA_RULE(
        (query, key, value, write_strength, log_decay),
        memory,
        reset=reset,
        chunk_size=chunk_size,
    )
