"""Softmax attention to the k best keys of each query (arXiv 2203.08913).

o_t = sum over the k visible keys s with the largest q_t . k_s of
softmax_s(q_t . k_s) v_s. Every head chooses for itself.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from memzoo.errors import InputError

from .query_blocks import fitting_block, map_blocks, masked_softmax
from .visibility import Places, sees


def top_k_attention(
    query: Float[Array, "b t h k"],
    key: Float[Array, "b s h k"],
    value: Float[Array, "b s h v"],
    places: Places,
    *,
    top_k: int,
    window: int | None = None,
    block_size: int | None = None,
) -> Float[Array, "b t h v"]:
    """Return the mean of the values at the best keys, weighted by softmax.

    The output is zero for a query that sees no key. Queries are processed in blocks:
    only one block's logits are in memory at a time, also in the backward pass.

    Args:
        query: queries, scaled by the caller.
        key: keys.
        value: values.
        places: segments and positions of queries and keys; a query sees the keys of
            its segment that are not later.
        top_k: number of keys that a query reads.
        window: number of keys that a query sees, up to its position; None: all.
        block_size: queries per block; affects speed and memory only. None: chosen for
            the sizes.

    Raises:
        InputError: `top_k` or `block_size` is below 1.
    """
    for name, given in (("top_k", top_k), ("block_size", block_size)):
        if given is not None and given < 1:
            raise InputError(f"{name} is {given}; give 1 or more")
    batch, time, heads, _ = query.shape
    source, size = key.shape[1], value.shape[-1]
    if 0 in (batch, time, source):
        return jnp.zeros((batch, time, heads, size), value.dtype)
    top_k = min(top_k, source)
    if block_size is None:
        block_size = fitting_block(batch * heads * (source + top_k * size))
    key, value = jnp.swapaxes(key, 1, 2), jnp.swapaxes(value, 1, 2)
    read = partial(_read, key, value, places, top_k, window)
    tokens = (query, places.query_segment, places.query_position)
    return map_blocks(read, tokens, block_size)


def _read(
    key: Float[Array, "b h s k"],
    value: Float[Array, "b h s v"],
    places: Places,
    top_k: int,
    window: int | None,
    query: Float[Array, "b i h k"],
    segment: Int[Array, "b i"],
    position: Int[Array, "b i"],
) -> Float[Array, "b i h v"]:
    """Choose each query's best keys, gather their values and add them up."""
    wide = jnp.promote_types(query.dtype, jnp.float32)
    logits = jnp.einsum("bihk,bhsk->bhis", query, key, preferred_element_type=wide)
    seen = sees(places._replace(query_segment=segment, query_position=position), window)
    logits, which = jax.lax.top_k(jnp.where(seen[:, None], logits, -jnp.inf), top_k)
    weight = masked_softmax(logits, jnp.isfinite(logits)).astype(value.dtype)
    chosen = jax.vmap(jax.vmap(lambda a, i: a[i]))(value, which)
    o = jnp.einsum("bhir,bhirv->bihv", weight, chosen, preferred_element_type=wide)
    return o.astype(value.dtype)
