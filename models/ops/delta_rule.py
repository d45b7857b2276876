"""The delta rule: a memory that replaces what a key held, and may decay.

S'_t = a_t S_{t-1}, S_t = S'_t + b_t k_t (v_t - S'_t^T k_t)^T and o_t = S_t^T q_t, that
is one gradient step of size b_t on 1/2 ||S^T k_t - v_t||^2 (arXiv 2102.11174 with
a_t = 1, arXiv 2412.06464 with a_t a function of the input). The chunkwise form is that
of arXiv 2406.06484.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from .chunk_decay import ChunkDecay, chunk_decay, keep, scale
from .chunk_scan import (
    Form,
    check_chunks,
    chunk_scan_with_gradient,
    merge_chunks,
    put_memory,
    resolve_chunk_size,
    resolve_form,
    split_chunks,
    split_segments,
    take_memory,
)
from .delta_rule_chunk import backward, forward
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
        log_decay: logarithm of the decay, at most 0; minus infinity erases the memory.
            None: no decay.
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
        q, k, v, strength, log_decay, start = token
        if start is not None:
            memory = jnp.where(start[:, None, None, None], 0, memory)
        o, memory = delta_rule_step(q, k, v, strength, log_decay, memory)
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
    memory: Float[Array, "b *m h k v"],
    *,
    reset: Bool[Array, "b t"] | None = None,
    chunk_size: int | None = None,
    form: Form = "auto",
    which: Int[Array, "b n"] | None = None,
) -> tuple[Float[Array, "b t h v"], Float[Array, "b *m h k v"]]:
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
            does not need the memory before it. `auto`: by the backend. The gradient of
            `scan` is written by hand, in reverse mode.
        which: of several memories a row, `b m h k v`, the one that each chunk of
            `chunk_size` tokens reads and writes; None: there is one, `b h k v`.

    Raises:
        ValueError: `which` does not name a memory for every chunk.
    """
    time = q.shape[1]
    chunk_size = resolve_chunk_size(chunk_size, time)
    check_chunks(which, time, chunk_size)
    chunks = split_chunks((q, k, v, write_strength, log_decay), chunk_size)
    segments = None if reset is None else split_segments(reset, chunk_size)
    if resolve_form(form) == "scan":
        o, memory = chunk_scan_with_gradient(
            forward, backward, memory, chunks, segments, which
        )
    else:
        o, memory = _all_chunks(chunks, segments, which, memory)
    return merge_chunks(o, time), memory


def _all_chunks(
    tokens: tuple,
    segments: Int[Array, "n b c"] | None,
    which: Int[Array, "b n"] | None,
    memory: Float[Array, "b *m h k v"],
) -> tuple[Float[Array, "n b c h v"], Float[Array, "b *m h k v"]]:
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
    return jnp.swapaxes(o, 2, 3).astype(v.dtype), memory


def _heads_first(
    tokens: tuple, segments: Int[Array, "n b c"] | None, dtype: DTypeLike
) -> tuple[Array, Array, Array, Array, ChunkDecay]:
    q, k, v, strength, log_decay = tokens
    q, k, v = (jnp.swapaxes(x, 2, 3) for x in (q, k, v))
    strength = jnp.swapaxes(strength, 2, 3).astype(dtype)
    if log_decay is not None:
        log_decay = jnp.swapaxes(log_decay, 2, 3)
    decay = chunk_decay(log_decay, segments, shape=strength.shape, dtype=dtype)
    return q, k, v, strength, decay
