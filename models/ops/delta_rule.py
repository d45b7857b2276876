"""The delta rule: a memory that replaces what a key held, and may decay.

S'_t = a_t S_{t-1}, S_t = S'_t + b_t k_t (v_t - S'_t^T k_t)^T and o_t = S_t^T q_t, that
is one gradient step of size b_t on 1/2 ||S^T k_t - v_t||^2 (arXiv 2102.11174 with
a_t = 1, arXiv 2412.06464 with a_t a function of the input). The chunkwise form is that
of arXiv 2406.06484.
"""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from .chunk_decay import ChunkDecay, chunk_decay, scale
from .chunk_scan import (
    Form,
    chunk_scan,
    merge_chunks,
    resolve_chunk_size,
    resolve_form,
    split_chunks,
    split_segments,
)
from .matrix_product import matrix_product
from .triangular import unit_lower_inverse


def delta_rule_step(
    q: Float[Array, "b h k"],
    k: Float[Array, "b h k"],
    v: Float[Array, "b h v"],
    write_strength: Float[Array, "b h"],
    log_decay: Float[Array, "b h"] | None,
    memory: Float[Array, "b h k v"],
) -> tuple[Float[Array, "b h v"], Float[Array, "b h k v"]]:
    """The output of one token and the memory after it.

    Args:
        q: query, scaled by the caller.
        k: key, normalised by the caller.
        v: value.
        write_strength: size of the gradient step; with keys of length 1 and no more
            than 2 the memory stays bounded.
        log_decay: logarithm of the decay, finite and at most 0; None: no decay.
        memory: before the token. Its type is that of all sums.
    """
    query, key, value, strength = (
        x.astype(memory.dtype) for x in (q, k, v, write_strength)
    )
    if log_decay is not None:
        memory = memory * jnp.exp(log_decay.astype(memory.dtype))[..., None, None]
    error = value - jnp.einsum("bhk,bhkv->bhv", key, memory)
    write = strength[..., None] * error
    memory = memory + key[..., :, None] * write[..., None, :]
    return jnp.einsum("bhk,bhkv->bhv", query, memory).astype(v.dtype), memory


def delta_rule_recurrent(
    q: Float[Array, "b t h k"],
    k: Float[Array, "b t h k"],
    v: Float[Array, "b t h v"],
    write_strength: Float[Array, "b t h"],
    log_decay: Float[Array, "b t h"] | None,
    memory: Float[Array, "b h k v"],
    *,
    reset: Bool[Array, "b t"] | None = None,
) -> tuple[Float[Array, "b t h v"], Float[Array, "b h k v"]]:
    """The outputs of a sequence and the memory after it, token by token.

    Args:
        q: queries, scaled by the caller.
        k: keys, normalised by the caller.
        v: values.
        write_strength: as in `delta_rule_step`.
        log_decay: as in `delta_rule_step`.
        memory: before the first token.
        reset: the memory is zero before this token.
    """

    def body(memory: Array, token: tuple):
        *inputs, start = token
        if start is not None:
            memory = jnp.where(start[:, None, None, None], 0, memory)
        o, memory = delta_rule_step(*inputs, memory)
        return memory, o

    tokens = jax.tree.map(
        lambda x: jnp.moveaxis(x, 1, 0), (q, k, v, write_strength, log_decay, reset)
    )
    memory, o = jax.lax.scan(body, memory, tokens)
    return jnp.moveaxis(o, 0, 1), memory


def delta_rule_chunkwise(
    q: Float[Array, "b t h k"],
    k: Float[Array, "b t h k"],
    v: Float[Array, "b t h v"],
    write_strength: Float[Array, "b t h"],
    log_decay: Float[Array, "b t h"] | None,
    memory: Float[Array, "b h k v"],
    *,
    reset: Bool[Array, "b t"] | None = None,
    chunk_size: int | None = None,
    form: Form = "auto",
) -> tuple[Float[Array, "b t h v"], Float[Array, "b h k v"]]:
    """What `delta_rule_recurrent` returns, by matrix products over chunks.

    Args:
        q: queries, scaled by the caller.
        k: keys, normalised by the caller.
        v: values.
        write_strength: as in `delta_rule_step`.
        log_decay: as in `delta_rule_step`.
        memory: before the first token.
        reset: the memory is zero before this token.
        chunk_size: tokens in a chunk; changes the speed alone. None: by the backend.
        form: `scan` does all the work inside a scan over chunks, `parallel` all that
            does not need the memory before it. `auto`: by the backend.
    """
    time = q.shape[1]
    chunk_size = resolve_chunk_size(chunk_size, time)
    tokens = (q, k, v, write_strength, log_decay)
    if resolve_form(form) == "scan":
        return chunk_scan(_chunk, memory, tokens, chunk_size=chunk_size, reset=reset)
    chunks = split_chunks(tokens, chunk_size)
    segments = None if reset is None else split_segments(reset, chunk_size)
    o, memory = _all_chunks(chunks, segments, memory)
    return merge_chunks(o, time), memory


def _chunk(
    memory: Float[Array, "b h k v"], tokens: tuple, segment: Int[Array, "b c"] | None
) -> tuple[Float[Array, "b h k v"], Float[Array, "b c h v"]]:
    q, k, v, strength, decay = _heads_first(tokens, segment, memory.dtype)
    types = {"operand": jnp.result_type(q, k, v), "accumulate": memory.dtype}
    inverse = unit_lower_inverse(_erasure(k, strength, decay, types))
    recalled = matrix_product("...ik,...kv->...iv", k, memory, **types)
    error = v.astype(memory.dtype) - scale(recalled, decay.carried)
    write = matrix_product(
        "...ij,...jv->...iv", inverse, scale(error, strength), **types
    )
    o = _read(q, k, write, decay, memory, types).astype(v.dtype)
    return _keep(memory, decay) + _write(k, write, decay, types), o


def _all_chunks(
    tokens: tuple, segments: Int[Array, "n b c"] | None, memory: Float[Array, "b h k v"]
) -> tuple[Float[Array, "n b c h v"], Float[Array, "b h k v"]]:
    q, k, v, strength, decay = _heads_first(tokens, segments, memory.dtype)
    types = {"operand": jnp.result_type(q, k, v), "accumulate": memory.dtype}
    inverse = unit_lower_inverse(_erasure(k, strength, decay, types))
    inverse = inverse * strength[..., None, :]
    fresh = matrix_product("...ij,...jv->...iv", inverse, v, **types)
    carried = scale(k.astype(memory.dtype), decay.carried)
    erased = matrix_product("...ij,...jk->...ik", inverse, carried, **types)

    def body(memory: Array, chunk: tuple):
        k, fresh, erased, decay = chunk
        recalled = matrix_product("...ik,...kv->...iv", erased, memory, **types)
        after = _keep(memory, decay) + _write(k, fresh - recalled, decay, types)
        return after, (memory, fresh - recalled)

    part = decay._replace(within=None, carried=None)
    memory, (before, write) = jax.lax.scan(body, memory, (k, fresh, erased, part))
    return _read(q, k, write, decay, before, types).astype(v.dtype), memory


def _heads_first(
    tokens: tuple, segment: Int[Array, "*n b c"] | None, dtype: DTypeLike
) -> tuple[Array, Array, Array, Array, ChunkDecay]:
    q, k, v, strength, log_decay = tokens
    q, k, v = (jnp.swapaxes(x, -2, -3) for x in (q, k, v))
    strength = jnp.swapaxes(strength, -1, -2).astype(dtype)
    if log_decay is not None:
        log_decay = jnp.swapaxes(log_decay, -1, -2)
    decay = chunk_decay(log_decay, segment, chunk_size=q.shape[-2], dtype=dtype)
    return q, k, v, strength, decay


def _erasure(
    k: Array, strength: Array, decay: ChunkDecay, types: dict
) -> Float[Array, "*n b h c c"]:
    """How much of the write of token j token i erases, for j < i."""
    similarity = matrix_product("...ik,...jk->...ij", k, k, **types)
    within = jnp.broadcast_to(jnp.tril(decay.within, -1), similarity.shape)
    return scale(similarity * within, strength)


def _read(
    q: Array, k: Array, write: Array, decay: ChunkDecay, memory: Array, types: dict
) -> Float[Array, "*n b c h v"]:
    scores = matrix_product("...ik,...jk->...ij", q, k, **types)
    scores = scores * jnp.broadcast_to(decay.within, scores.shape)
    carried = matrix_product("...ik,...kv->...iv", q, memory, **types)
    o = scale(carried, decay.carried) + matrix_product(
        "...ij,...jv->...iv", scores, write, **types
    )
    return jnp.swapaxes(o, -2, -3)


def _write(
    k: Array, write: Array, decay: ChunkDecay, types: dict
) -> Float[Array, "*n b h k v"]:
    remaining = scale(write, decay.remaining)
    return matrix_product("...jk,...jv->...kv", k, remaining, **types)


def _keep(memory: Array, decay: ChunkDecay) -> Array:
    return memory if decay.kept is None else memory * decay.kept[..., None, None]
