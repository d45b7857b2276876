"""Attention that fits a line around every query in place of a constant.

With p the softmax weights of a query, k_bar and v_bar the weighted means of keys and
values, and Sigma and Cov their weighted covariances (arXiv 2501.12352, 2510.01450):

    o = v_bar + Cov^T u,  (Sigma + diag(r)) u = q - k_bar

This is the intercept at q of the least-squares line through the values, with weights p
and a ridge r on the slope only. It equals a mean with other weights:

    o = sum_s p_s (1 + u . (k_s - k_bar)) v_s

Parallax (arXiv 2605.29157) replaces -u by a learned vector, so that nothing is solved.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from memzoo.errors import InputError

from .attention import fill_places
from .chunk_scan import merge_chunks, split_chunks
from .conjugate_gradients import solve
from .matrix_product import exact_product
from .visibility import Places, sees


def local_linear_attention(
    q: Float[Array, "b t h k"],
    k: Float[Array, "b s g k"],
    v: Float[Array, "b s g v"],
    *,
    ridge: Float[Array, " h"] | None = None,
    slope: Float[Array, "b t h k"] | None = None,
    scale: float | None = None,
    query_position: Int[Array, "b t"] | None = None,
    query_segment: Int[Array, "b t"] | None = None,
    key_position: Int[Array, "b s"] | None = None,
    key_segment: Int[Array, "b s"] | None = None,
    block_size: int = 64,
) -> Float[Array, "b t h v"]:
    """Return the value at each query of the line through the values that it sees.

    Queries see keys as in `attention`; the output is zero for a query that sees none.
    Queries are processed in blocks, also in the backward pass, so that memory grows
    linearly with the length. The sums are in float32, or in float64 for float64 inputs.

    Args:
        q: queries.
        k: keys; head i of the queries uses group i // (h / g).
        v: values.
        ridge: number to add to the diagonal of Sigma, above 0; needed without slopes.
        slope: vectors u of the read, computed elsewhere. None: solved, to rounding.
        scale: factor of the logits; None: k^(-1/2).
        query_position: position of every query in its document.
        query_segment: document number of every query.
        key_position: position of every key in its document.
        key_segment: document number of every key; negative: hidden.
        block_size: queries per block; affects speed only.

    Raises:
        InputError: neither or both of ridge and slope are given.
    """
    if (ridge is None) == (slope is None):
        raise InputError("give either a ridge, to solve for slopes, or the slopes")
    time, heads, size = q.shape[1:]
    if 0 in (q.size, k.size):
        return jnp.zeros((*q.shape[:3], v.shape[-1]), v.dtype)
    given = (query_segment, query_position, key_segment, key_position)
    places = fill_places(q, k, *given)
    wide = jnp.promote_types(jnp.result_type(q, k, v), jnp.float32)
    factor = size**-0.5 if scale is None else scale
    repeats = heads // k.shape[2]
    keys, values = (
        jnp.repeat(x.astype(wide), repeats, axis=2) if repeats > 1 else x.astype(wide)
        for x in (k, v)
    )
    block = partial(_block, keys, values, places[2:], ridge, factor)
    queries = (q.astype(wide), slope, places.query_segment, places.query_position)
    chunks = split_chunks(queries, min(block_size, time))
    o = jax.lax.map(lambda chunk: jax.checkpoint(block)(*chunk), chunks)
    return merge_chunks(o, time).astype(v.dtype)


def _block(
    k: Float[Array, "b s h k"],
    v: Float[Array, "b s h v"],
    key_places: tuple[Array, Array],
    ridge: Float[Array, " h"] | None,
    scale: float,
    q: Float[Array, "b n h k"],
    slope: Float[Array, "b n h k"] | None,
    segment: Int[Array, "b n"],
    position: Int[Array, "b n"],
) -> Float[Array, "b n h v"]:
    """Return the outputs of a block of queries, with all their weights at once."""
    seen = sees(Places(segment, position, *key_places), None)[:, None]
    weight = _softmax(scale * exact_product("bnhk,bshk->bhns", q, k), seen)
    k_mean = exact_product("bhns,bshk->bnhk", weight, k)

    def deviations(x: Float[Array, "b n h k"]) -> Float[Array, "b h n s"]:
        """Return x . (k_s - k_bar) for every query and key."""
        mean = jnp.einsum("bnhk,bnhk->bhn", x, k_mean, precision="highest")
        return exact_product("bnhk,bshk->bhns", x, k) - mean[..., None]

    if ridge is not None:
        added = ridge[None, None, :, None].astype(k.dtype)

        def product(x: Float[Array, "b n h k"]) -> Float[Array, "b n h k"]:
            spread = exact_product("bhns,bshk->bnhk", weight * deviations(x), k)
            return spread + added * x

        # Conjugate gradients need at most one step per channel, but for rounding.
        slope = solve(product, q - k_mean, steps=2 * q.shape[-1])
    assert slope is not None
    weight = weight * (1 + deviations(slope.astype(k.dtype)))
    return exact_product("bhns,bshv->bnhv", weight, v)


def _softmax(logits: Float[Array, "b h n s"], seen: Array) -> Float[Array, "b h n s"]:
    """Return the softmax over the keys that are seen; zeros if none is."""
    logits = jnp.where(seen, logits, -jnp.inf)
    largest = jnp.max(logits, axis=-1, keepdims=True)
    largest = jax.lax.stop_gradient(jnp.where(jnp.isfinite(largest), largest, 0))
    weight = jnp.where(seen, jnp.exp(logits - largest), 0)
    total = jnp.sum(weight, axis=-1, keepdims=True)
    return weight / jnp.where(total == 0, 1, total)
