"""Linear attention whose memory decays by one factor a head and step.

S_t = a_t S_{t-1} + k_t v_t^T and o_t = S_t^T q_t (arXiv 2006.16236 with a_t = 1,
arXiv 2307.08621 with a constant a, arXiv 2405.21060 with a_t a function of the input).
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .chunk_decay import chunk_decay, keep, scale
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
from .matrix_product import matrix_product
from .scalar_decay_chunk import backward, forward


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
        log_decay: logarithm of the decay, at most 0; minus infinity erases the memory.
            None: no decay.
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
        q, k, v, log_decay, start = token
        if start is not None:
            memory = jnp.where(start[:, None, None, None], 0, memory)
        o, memory = scalar_decay_step(q, k, v, log_decay, memory)
        return memory, o

    tokens = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), (q, k, v, log_decay, reset))
    memory, o = jax.lax.scan(body, memory, tokens)
    return jnp.moveaxis(o, 0, 1), memory


def scalar_decay_chunkwise(
    q: Float[Array, "b t h k"],
    k: Float[Array, "b t h k"],
    v: Float[Array, "b t h v"],
    log_decay: Float[Array, "b t h"] | None,
    memory: Float[Array, "b *m h k v"],
    *,
    reset: Bool[Array, "b t"] | None = None,
    chunk_size: int | None = None,
    form: Form = "auto",
    which: Int[Array, "b n"] | None = None,
) -> tuple[Float[Array, "b t h v"], Float[Array, "b *m h k v"]]:
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
    chunks = split_chunks((q, k, v, log_decay), chunk_size)
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
