"""Linear attention through the second-order Taylor map, its features never written out.

S_t = S_(t-1) + phi(k_t) v_t^T and o_t = S_t^T phi(q_t), where phi is `taylor`, so that
phi(q) . phi(k) = 1 + s + s^2 / 2 with s = q . k (Based, arXiv 2402.18668; JRT, arXiv
2407.05483). The chunkwise form makes the features of one chunk at a time, and the
scores inside a chunk from s alone: of queries and keys of 16 numbers, 16 products in
place of 153.
"""

from functools import partial

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .chunk_scan import (
    Form,
    chunk_scan,
    chunk_scan_with_gradient,
    merge_chunks,
    resolve_form,
    split_chunks,
    split_segments,
)
from .feature_maps import taylor
from .matrix_product import matrix_product
from .scalar_decay import (
    scalar_decay_chunkwise,
    scalar_decay_recurrent,
    scalar_decay_step,
)
from .scalar_decay_write import scalar_decay_write
from .taylor_attention_chunk import backward, forward

# Chunks are larger than those of other recurrent operations: the features that are made
# a chunk at a time are many, and scores inside it cheap.
_CHUNK_SIZE = 64


def taylor_attention_step(
    q: Float[Array, "b h k"],
    k: Float[Array, "b h k"],
    v: Float[Array, "b h v"],
    memory: Float[Array, "b h f v"],
) -> tuple[Float[Array, "b h v"], Float[Array, "b h f v"]]:
    """The output of one token and the memory after it.

    Args:
        q: query, scaled by the caller.
        k: key.
        v: value.
        memory: before the token; f is `taylor_size(k)`. Its type is that of all sums.
    """
    return scalar_decay_step(taylor(q), taylor(k), v, None, memory)


def taylor_attention_recurrent(
    q: Float[Array, "b t h k"],
    k: Float[Array, "b t h k"],
    v: Float[Array, "b t h v"],
    memory: Float[Array, "b h f v"],
    *,
    reset: Bool[Array, "b t"] | None = None,
) -> tuple[Float[Array, "b t h v"], Float[Array, "b h f v"]]:
    """The outputs of a sequence and the memory after it, token by token.

    Args:
        q: queries, scaled by the caller.
        k: keys.
        v: values.
        memory: before the first token.
        reset: the memory is zero before this token.
    """
    return scalar_decay_recurrent(taylor(q), taylor(k), v, None, memory, reset=reset)


def taylor_attention_chunkwise(
    q: Float[Array, "b t h k"],
    k: Float[Array, "b t h k"],
    v: Float[Array, "b t h v"],
    memory: Float[Array, "b h f v"],
    *,
    reset: Bool[Array, "b t"] | None = None,
    chunk_size: int | None = None,
    form: Form = "auto",
) -> tuple[Float[Array, "b t h v"], Float[Array, "b h f v"]]:
    """What `taylor_attention_recurrent` returns, by matrix products over chunks.

    A token whose value is zero changes nothing, whatever its key.

    Args:
        q: queries, scaled by the caller.
        k: keys.
        v: values.
        memory: before the first token.
        reset: the memory is zero before this token.
        chunk_size: tokens in a chunk; changes the speed alone. None: chosen here.
        form: `scan` does all the work inside a scan over chunks; `parallel` writes the
            features out and does all that does not need the memory before it. `auto`:
            by the backend. The gradient is written by hand, in reverse mode.
    """
    if resolve_form(form) == "parallel":
        features = taylor(q), taylor(k)
        return scalar_decay_chunkwise(
            *features, v, None, memory, reset=reset, chunk_size=chunk_size, form=form
        )
    time = q.shape[1]
    size = _resolve(chunk_size, time)
    chunks = split_chunks((q, k, v), size)
    segments = None if reset is None else split_segments(reset, size)
    o, memory = chunk_scan_with_gradient(forward, backward, memory, chunks, segments)
    return merge_chunks(o, time), memory


def taylor_attention_write(
    k: Float[Array, "b t h k"],
    v: Float[Array, "b t h v"],
    memory: Float[Array, "b h f v"],
    *,
    form: Form = "auto",
) -> Float[Array, "b h f v"]:
    """The memory after a sequence that nobody reads.

    Args:
        k: keys.
        v: values.
        memory: before the first token.
        form: as in `taylor_attention_chunkwise`.
    """
    if resolve_form(form) == "parallel":
        return scalar_decay_write(taylor(k), v, None, memory)
    dot = partial(
        matrix_product, operand=jnp.result_type(k, v), accumulate=memory.dtype
    )

    def body(
        memory: Array, tokens: tuple, segment: Array | None
    ) -> tuple[Array, tuple]:
        del segment
        k, v = (jnp.swapaxes(x, 1, 2) for x in tokens)
        return memory + dot("bhck,bhcv->bhkv", taylor(k), v), ()

    size = _resolve(None, k.shape[1])
    return chunk_scan(body, memory, (k, v), chunk_size=size)[1]


def _resolve(chunk_size: int | None, time: int) -> int:
    return min(_CHUNK_SIZE if chunk_size is None else chunk_size, max(time, 1))
