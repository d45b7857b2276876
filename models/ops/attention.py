"""Exact softmax attention: causal, windowed, grouped, over documents and caches.

o_i = sum_j softmax_j(scale q_i . k_j) v_j over the keys that query i sees
(arXiv 1706.03762; grouped queries: arXiv 2305.13245).
"""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from memzoo.errors import InputError

from .axes import check_axes, float_array
from .blockwise_attention import blockwise_attention
from .visibility import ALWAYS_VISIBLE, Places, sees

__all__ = ["ALWAYS_VISIBLE", "Implementation", "attention"]

Implementation = Literal["auto", "blockwise", "reference", "cudnn"]
_ORDER = "the order of axes: `b t h k` for q, `b s g k` for k and v"


class _Given(NamedTuple):
    """Arrays that `attention` is given, with their axes."""

    q: Float[Array, "b t h k"]
    k: Float[Array, "b s g k"]
    v: Float[Array, "b s g v"]
    query_position: Int[Array, "b t"] | None
    query_segment: Int[Array, "b t"] | None
    key_position: Int[Array, "b s"] | None
    key_segment: Int[Array, "b s"] | None


def attention(
    q: Float[Array, "b t h k"],
    k: Float[Array, "b s g k"],
    v: Float[Array, "b s g v"],
    *,
    scale: float | None = None,
    window: int | None = None,
    query_position: Int[Array, "b t"] | None = None,
    query_segment: Int[Array, "b t"] | None = None,
    key_position: Int[Array, "b s"] | None = None,
    key_segment: Int[Array, "b s"] | None = None,
    block_size: int | None = None,
    implementation: Implementation = "auto",
) -> Float[Array, "b t h v"]:
    """Return the mean of the values that each query sees, weighted by softmax.

    A query sees a key if both have the same segment, which is not negative, and the
    key's position is at most the query's. With a window w, the key's position must also
    be larger than the query's minus w. A key whose segment is `ALWAYS_VISIBLE` is seen
    by every query, also outside the window. The output is zero for a query that sees no
    key. Without positions, queries and keys have positions 0, 1, 2, ...; without
    segments, all are in document 0. Positions need not differ: a key at position 0 is
    seen by its whole document. A prefix is read non-causally that way.

    Head i reads group i // (h / g) of keys and values, which are not repeated in
    memory. The softmax is computed in float32 (in float64 for float64 inputs), matrix
    products in the type of the inputs with sums in float32.

    Args:
        q: queries.
        k: keys.
        v: values.
        scale: factor of the logits; None: k^(-1/2).
        window: number of keys that a query sees in its document, itself included.
        query_position: position of every query in its document.
        query_segment: document number of every query.
        key_position: position of every key in its document.
        key_segment: document number of every key, negative (hidden) or
            `ALWAYS_VISIBLE`.
        block_size: keys per tile of the blockwise form; affects speed only.
        implementation: "reference" builds all logits; "blockwise" never holds more
            than a tile of them; "cudnn" is NVIDIA's kernel; "auto" chooses cudnn where
            it applies, else blockwise.

    Raises:
        InputError: an array is not one of floats or has other axes; heads are not a
            multiple of groups; a window or block size is below
            1; only one of query and key positions is given; lengths differ without
            positions; the implementation does not exist or does not apply.
    """
    q, k, v = map(float_array, ("q", "k", "v"), (q, k, v))
    check_axes(
        _Given,
        _Given(q, k, v, query_position, query_segment, key_position, key_segment),
    )
    _check(q, k, window, query_position, key_position, block_size)
    dtype = v.dtype
    factor: float = q.shape[-1] ** -0.5 if scale is None else scale
    given = (query_segment, query_position, key_segment, key_position)
    places = fill_places(q, k, *given) if any(x is not None for x in given) else None
    obstacle = _cudnn_obstacle(q, k, v, places)
    if implementation == "auto":
        implementation = "blockwise" if obstacle else "cudnn"
    q, k, v = (x.astype(jnp.result_type(q, k, v)) for x in (q, k, v))
    if implementation == "reference":
        o = _reference(q, k, v, factor, window, places)
    elif implementation == "blockwise":
        o = blockwise_attention(
            q, k, v, scale=factor, window=window, places=places, block_size=block_size
        )
    elif implementation == "cudnn":
        if obstacle:
            raise InputError(f"implementation is 'cudnn', but {obstacle}; use 'auto'")
        o = _cudnn(q, k, v, factor, window)
    else:
        names = ", ".join(get_args(Implementation))
        raise InputError(f"implementation is {implementation!r}; choose {names}")
    return o.astype(dtype)


def _check(
    q: Array,
    k: Array,
    window: int | None,
    query_position: Array | None,
    key_position: Array | None,
    block_size: int | None,
) -> None:
    heads, groups = q.shape[2], k.shape[2]
    if heads % groups:
        raise InputError(
            f"{heads} heads are not a multiple of {groups} key groups; give a "
            f"multiple, and check {_ORDER}"
        )
    for name, size in (("window", window), ("block_size", block_size)):
        if size is not None and not hasattr(size, "__index__"):
            raise InputError(f"{name} is {size!r}; give a whole number, or None")
        if size is not None and size < 1:
            raise InputError(f"{name} is {size}; give at least 1, or None")
    if (query_position is None) != (key_position is None):
        raise InputError(
            "only one of query_position and key_position is given; give both or neither"
        )
    if query_position is None and q.shape[1] != k.shape[1]:
        raise InputError(
            f"{q.shape[1]} queries and {k.shape[1]} keys have no common order; give "
            f"query_position and key_position, or check {_ORDER}"
        )


def fill_places(
    q: Array,
    k: Array,
    query_segment: Array | None,
    query_position: Array | None,
    key_segment: Array | None,
    key_position: Array | None,
) -> Places:
    """Return places as int32; default to document 0 and positions in order."""

    def fill(given: Array | None, length: int, ordered: bool) -> Array:
        if given is None:
            row = jnp.arange(length) if ordered else jnp.zeros(length)
            given = jnp.broadcast_to(row, (q.shape[0], length))
        return given.astype(jnp.int32)

    return Places(
        fill(query_segment, q.shape[1], False),
        fill(query_position, q.shape[1], True),
        fill(key_segment, k.shape[1], False),
        fill(key_position, k.shape[1], True),
    )


def _reference(
    q: Float[Array, "b t h k"],
    k: Float[Array, "b s g k"],
    v: Float[Array, "b s g v"],
    scale: float,
    window: int | None,
    places: Places | None,
) -> Float[Array, "b t h v"]:
    """Compute the masked softmax directly."""
    wide = jnp.promote_types(q.dtype, jnp.float32)
    if places is None:
        places = fill_places(q, k, None, None, None, None)
    batch, time, heads, size = q.shape
    groups = k.shape[2]
    grouped = q.reshape(batch, time, groups, heads // groups, size)
    logits = scale * jnp.einsum(
        "btgrk,bsgk->bgrts", grouped, k, preferred_element_type=wide
    )
    seen = sees(places, window)[:, None, None]
    logits = jnp.where(seen, logits, -jnp.inf)
    largest = jnp.max(logits, axis=-1, keepdims=True, initial=-jnp.inf)
    largest = jnp.where(jnp.isfinite(largest), largest, 0)
    weight = jnp.exp(logits - jax.lax.stop_gradient(largest))
    total = jnp.sum(weight, axis=-1, keepdims=True)
    weight = weight / jnp.where(total == 0, 1, total)
    o = jnp.einsum(
        "bgrts,bsgv->btgrv", weight.astype(v.dtype), v, preferred_element_type=wide
    )
    return o.reshape(batch, time, heads, v.shape[-1])


def _cudnn_obstacle(q: Array, k: Array, v: Array, places: Places | None) -> str | None:
    """Return why cuDNN's kernel does not apply; None if it does."""
    if jax.default_backend() != "gpu":
        return f"the backend is {jax.default_backend()}"
    if places is not None:
        return "positions or segments are given"
    if not q.dtype == k.dtype == v.dtype or q.dtype not in (jnp.float16, jnp.bfloat16):
        return f"the inputs are {q.dtype}, {k.dtype} and {v.dtype}"
    size = q.shape[-1]
    if size % 8 or size > 128 or v.shape[-1] != size:
        return f"the key size is {size} and the value size {v.shape[-1]}"
    if 0 in (q.size, v.size):
        return "an input is empty"
    capability = getattr(jax.devices()[0], "compute_capability", "0")
    if not str(capability).replace(".", "").isdigit() or float(capability) < 8:
        return f"the GPU's compute capability is {capability}"
    return None


def _cudnn(
    q: Float[Array, "b t h k"],
    k: Float[Array, "b t g k"],
    v: Float[Array, "b t g v"],
    scale: float,
    window: int | None,
) -> Float[Array, "b t h v"]:
    return jax.nn.dot_product_attention(
        q,
        k,
        v,
        scale=scale,
        is_causal=True,
        local_window_size=None if window is None else (window - 1, 0),
        implementation="cudnn",
    )
