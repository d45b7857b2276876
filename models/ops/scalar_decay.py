"""Linear attention whose memory decays by one factor a head and step.

S_t = a_t S_{t-1} + k_t v_t^T and o_t = S_t^T q_t (arXiv 2006.16236 with a_t = 1,
arXiv 2307.08621 with a constant a, arXiv 2405.21060 with a_t a function of the input).
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


def scalar_decay_step(
    q: Float[Array, "b h k"],
    k: Float[Array, "b h k"],
    v: Float[Array, "b h v"],
    log_decay: Float[Array, "b h"] | None,
    memory: Float[Array, "b h k v"],
) -> tuple[Float[Array, "b h v"], Float[Array, "b h k v"]]:
    """The output of one token and the memory after it.

    Args:
        q: query, scaled by the caller.
        k: key.
        v: value.
        log_decay: logarithm of the decay, finite and at most 0; None: no decay.
        memory: before the token. Its type is that of all sums.
    """
    query, key, value = (x.astype(memory.dtype) for x in (q, k, v))
    if log_decay is not None:
        memory = memory * jnp.exp(log_decay.astype(memory.dtype))[..., None, None]
    memory = memory + key[..., :, None] * value[..., None, :]
    return jnp.einsum("bhk,bhkv->bhv", query, memory).astype(v.dtype), memory


def scalar_decay_recurrent(
    q: Float[Array, "b t h k"],
    k: Float[Array, "b t h k"],
    v: Float[Array, "b t h v"],
    log_decay: Float[Array, "b t h"] | None,
    memory: Float[Array, "b h k v"],
    *,
    reset: Bool[Array, "b t"] | None = None,
) -> tuple[Float[Array, "b t h v"], Float[Array, "b h k v"]]:
    """The outputs of a sequence and the memory after it, token by token.

    Args:
        q: queries, scaled by the caller.
        k: keys.
        v: values.
        log_decay: as in `scalar_decay_step`.
        memory: before the first token.
        reset: the memory is zero before this token.
    """

    def body(memory: Array, token: tuple):
        *inputs, start = token
        if start is not None:
            memory = jnp.where(start[:, None, None, None], 0, memory)
        o, memory = scalar_decay_step(*inputs, memory)
        return memory, o

    tokens = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), (q, k, v, log_decay, reset))
    memory, o = jax.lax.scan(body, memory, tokens)
    return jnp.moveaxis(o, 0, 1), memory


def scalar_decay_chunkwise(
    q: Float[Array, "b t h k"],
    k: Float[Array, "b t h k"],
    v: Float[Array, "b t h v"],
    log_decay: Float[Array, "b t h"] | None,
    memory: Float[Array, "b h k v"],
    *,
    reset: Bool[Array, "b t"] | None = None,
    chunk_size: int | None = None,
    form: Form = "auto",
) -> tuple[Float[Array, "b t h v"], Float[Array, "b h k v"]]:
    """What `scalar_decay_recurrent` returns, by matrix products over chunks.

    Args:
        q: queries, scaled by the caller.
        k: keys.
        v: values.
        log_decay: as in `scalar_decay_step`.
        memory: before the first token.
        reset: the memory is zero before this token.
        chunk_size: tokens in a chunk; changes the speed alone. None: by the backend.
        form: `scan` does all the work inside a scan over chunks, `parallel` all that
            does not need the memory before it. `auto`: by the backend.
    """
    time = q.shape[1]
    chunk_size = resolve_chunk_size(chunk_size, time)
    tokens = (q, k, v, log_decay)
    if resolve_form(form) == "scan":
        return chunk_scan(_chunk, memory, tokens, chunk_size=chunk_size, reset=reset)
    chunks = split_chunks(tokens, chunk_size)
    segments = None if reset is None else split_segments(reset, chunk_size)
    o, memory = _all_chunks(chunks, segments, memory)
    return merge_chunks(o, time), memory


def _chunk(
    memory: Float[Array, "b h k v"], tokens: tuple, segment: Int[Array, "b c"] | None
) -> tuple[Float[Array, "b h k v"], Float[Array, "b c h v"]]:
    q, k, v, decay = _heads_first(tokens, segment, memory.dtype)
    o = _read(q, k, v, decay, memory)
    return _kept(memory, decay) + _write(k, v, decay, memory.dtype), o


def _all_chunks(
    tokens: tuple, segments: Int[Array, "n b c"] | None, memory: Float[Array, "b h k v"]
) -> tuple[Float[Array, "n b c h v"], Float[Array, "b h k v"]]:
    q, k, v, decay = _heads_first(tokens, segments, memory.dtype)
    written = _write(k, v, decay, memory.dtype)

    def body(memory: Array, chunk: tuple):
        written, kept = chunk
        after = memory if kept is None else memory * kept[..., None, None]
        return after + written, memory

    memory, before = jax.lax.scan(body, memory, (written, decay.kept))
    return _read(q, k, v, decay, before), memory


def _heads_first(
    tokens: tuple, segment: Int[Array, "*n b c"] | None, dtype: DTypeLike
) -> tuple[Array, Array, Array, ChunkDecay]:
    q, k, v, log_decay = tokens
    q, k, v = (jnp.swapaxes(x, -2, -3) for x in (q, k, v))
    if log_decay is not None:
        log_decay = jnp.swapaxes(log_decay, -1, -2)
    decay = chunk_decay(log_decay, segment, chunk_size=q.shape[-2], dtype=dtype)
    return q, k, v, decay


def _read(
    q: Array, k: Array, v: Array, decay: ChunkDecay, memory: Array
) -> Float[Array, "*n b c h v"]:
    operand = jnp.result_type(q, k, v)
    types = {"operand": operand, "accumulate": memory.dtype}
    scores = matrix_product("...ik,...jk->...ij", q, k, **types)
    scores = scores * jnp.broadcast_to(decay.within, scores.shape)
    carried = matrix_product("...ik,...kv->...iv", q, memory, **types)
    o = scale(carried, decay.carried) + matrix_product(
        "...ij,...jv->...iv", scores, v, **types
    )
    return jnp.swapaxes(o, -2, -3).astype(v.dtype)


def _write(
    k: Array, v: Array, decay: ChunkDecay, dtype: DTypeLike
) -> Float[Array, "*n b h k v"]:
    remaining = scale(v.astype(dtype), decay.remaining)
    operand = jnp.result_type(k, v)
    return matrix_product(
        "...jk,...jv->...kv", k, remaining, operand=operand, accumulate=dtype
    )


def _kept(memory: Array, decay: ChunkDecay) -> Array:
    return memory if decay.kept is None else memory * decay.kept[..., None, None]
