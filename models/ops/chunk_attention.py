"""Attention inside the most relevant chunks of a memory (arXiv 2105.14039).

Every chunk n of c tokens has a summary z_n. A query with the relevance query r_t

1. picks the k chunks with the largest r_t . z_n / sqrt(f),
2. attends inside each of them: o_tn = sum_j softmax_j(q_t . k_nj / sqrt(k)) v_nj,
3. returns sum_n w_tn o_tn, where w_t is the softmax of the relevances of the k chunks.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from memzoo.errors import InputError

from .query_blocks import fitting_block, map_blocks, masked_softmax
from .visibility import Places, sees


class Chunks(NamedTuple):
    """Chunks of a memory.

    Attributes:
        key: keys of the tokens of each chunk.
        value: values of the tokens of each chunk.
        summary: key of each chunk as a whole.
    """

    key: Float[Array, "b n c h k"]
    value: Float[Array, "b n c h v"]
    summary: Float[Array, "b n f"]


def chunk_attention(
    query: Float[Array, "b t h k"],
    relevance_query: Float[Array, "b t f"],
    chunks: Chunks,
    places: Places,
    *,
    top_k: int,
    window: int | None = None,
    block_size: int | None = None,
) -> Float[Array, "b t h v"]:
    """Return the read of the most relevant chunks that each query sees.

    The output is zero for a query that sees no chunk. Queries are processed in blocks:
    the gathered keys and values of one block are in memory at a time, also in the
    backward pass, which gathers them again.

    Args:
        query: queries.
        relevance_query: queries for the summaries.
        chunks: chunks to read.
        places: segments and positions of queries and chunks; a query sees the chunks
            of its segment that are not later.
        top_k: number of chunks that a query reads.
        window: number of positions of chunks that a query sees, up to its position;
            None: all.
        block_size: queries per block; affects speed and memory only. None: chosen for
            the sizes.

    Raises:
        InputError: `top_k` or `block_size` is below 1.
    """
    for name, given in (("top_k", top_k), ("block_size", block_size)):
        if given is not None and given < 1:
            raise InputError(f"{name} is {given}; give 1 or more")
    batch, time, heads, _ = query.shape
    number, size = chunks.key.shape[1:3]
    value_size = chunks.value.shape[-1]
    if 0 in (batch, time, number):
        return jnp.zeros((batch, time, heads, value_size), chunks.value.dtype)
    top_k = min(top_k, number)
    if block_size is None:
        each = batch * top_k * size * heads * (query.shape[-1] + value_size)
        block_size = fitting_block(each)
    read = partial(_read, chunks, places, top_k, window)
    tokens = (query, relevance_query, places.query_segment, places.query_position)
    return map_blocks(read, tokens, block_size)


def _read(
    chunks: Chunks,
    places: Places,
    top_k: int,
    window: int | None,
    query: Float[Array, "b i h k"],
    relevance_query: Float[Array, "b i f"],
    segment: Int[Array, "b i"],
    position: Int[Array, "b i"],
) -> Float[Array, "b i h v"]:
    """Gather the chosen chunks of each query and attend inside them."""
    wide = jnp.promote_types(query.dtype, jnp.float32)
    dot = partial(jnp.einsum, preferred_element_type=wide)
    relevance = dot("bif,bnf->bin", relevance_query, chunks.summary)
    relevance = relevance * relevance_query.shape[-1] ** -0.5
    seen = sees(places._replace(query_segment=segment, query_position=position), window)
    relevance, which = jax.lax.top_k(jnp.where(seen, relevance, -jnp.inf), top_k)
    weight = masked_softmax(relevance, jnp.isfinite(relevance))
    key, value = (jax.vmap(lambda a, i: a[i])(a, which) for a in chunks[:2])
    logits = dot("bihk,birchk->birhc", query, key) * query.shape[-1] ** -0.5
    inside = jax.nn.softmax(logits, axis=-1) * weight[:, :, :, None, None]
    o = dot("birhc,birchv->bihv", inside.astype(value.dtype), value)
    return o.astype(value.dtype)
