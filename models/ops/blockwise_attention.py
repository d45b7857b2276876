"""Attention tile by tile: at most one tile of logits is held at once.

The forward pass is an online softmax over blocks of keys (arXiv 2112.05682,
2205.14135). The backward pass recomputes the weights from the saved logarithm of their
sum, so that memory grows linearly with the length. Tiles have axes keys by queries:
reductions over keys then run along whole vectors of queries, and no matrix product has
a large transposed factor.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .chunk_scan import Form, resolve_form
from .visibility import Places, block_visits, sees

# q, k, v, places, o and the logarithm of the softmax's sum
_Saved = tuple[Array, Array, Array, Places | None, Array, Array]


@runtime_checkable
class _Tile(Protocol):
    """One step of a sweep: the carry after a block of keys."""

    def __call__(self, key_block: Any, carry: Any, masked: bool) -> Any: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Plan:
    """The static part: tile sizes and the visibility rule.

    A tile covers `batch` rows, `groups` key groups and `repeats` heads of each group.
    """

    scale: float
    window: int | None
    query_block: int
    key_block: int
    repeats: int
    batch: int
    groups: int


def blockwise_attention(
    q: Float[Array, "b t h k"],
    k: Float[Array, "b s g k"],
    v: Float[Array, "b s g v"],
    *,
    scale: float,
    window: int | None = None,
    places: Places | None = None,
    block_size: int | None = None,
    form: Form = "auto",
) -> Float[Array, "b t h v"]:
    """Compute softmax attention in time t s and memory t + s.

    Args:
        q: queries.
        k: keys, of the same type.
        v: values, of the same type.
        scale: factor of the logits.
        window: number of keys that a query sees, itself included; None: all up to it.
        places: segments and positions; None: causal by index, t == s.
        block_size: keys per tile; None: chosen for the backend.
        form: "scan" processes one row and key group after another, so that a tile stays
            in a CPU's cache; "parallel" processes all at once; "auto" chooses for the
            backend.
    """
    batch, time, heads = q.shape[:3]
    source, groups = k.shape[1:3]
    if 0 in (batch, time, heads, source):
        return jnp.zeros((batch, time, heads, v.shape[-1]), v.dtype)
    one_by_one = resolve_form(form) == "scan"
    if block_size is None:
        block_size = 256 if one_by_one else 128
    repeats = heads // groups
    if q.dtype == jnp.promote_types(q.dtype, jnp.float32):
        # Cheaper than scaling every tile; a narrow type would be rounded once more.
        q, scale = q * scale, 1.0
    plan = _Plan(
        scale=scale,
        window=window,
        query_block=_even_block(time, max(block_size // repeats, 1)),
        key_block=_even_block(source, block_size),
        repeats=repeats,
        batch=1 if one_by_one else batch,
        groups=1 if one_by_one else groups,
    )
    q = _pad_time(q, plan.query_block)
    k, v = (_pad_time(x, plan.key_block) for x in (k, v))
    if places is not None:
        query = (_pad_time(x, plan.query_block, -1) for x in places[:2])
        key = (_pad_time(x, plan.key_block, -1) for x in places[2:])
        places = Places(*query, *key)
    o = _attend(plan, _split_queries(plan, q, groups), k, v, places)
    return _merge_queries(plan, o, batch, groups)[:, :time]


def _even_block(length: int, largest: int) -> int:
    """Return a block size of at most about `largest` with little padding at the end."""
    blocks = -(-length // largest)
    if blocks == 1:
        return length
    even = -(-length // blocks)
    return min(largest, -(-even // 16) * 16)


def _pad_time(x: Array, block: int, value: int = 0) -> Array:
    extra = -x.shape[1] % block
    if extra == 0:
        return x
    padding = [(0, 0)] * x.ndim
    padding[1] = (0, extra)
    return jnp.pad(x, padding, constant_values=value)


def _split_queries(plan: _Plan, x: Array, groups: int) -> Array:
    """Reshape `b t h d` to (sweeps, blocks, batch, groups, rows of a block, d).

    A sweep is one pass over all tiles; a block's rows are its tokens times the heads
    that share a key group.
    """
    batch, time, _, size = x.shape
    outer, inner = batch // plan.batch, groups // plan.groups
    blocks, block = time // plan.query_block, plan.query_block
    x = x.reshape(outer, plan.batch, blocks, block, inner, plan.groups, -1, size)
    x = x.transpose(0, 4, 2, 1, 5, 3, 6, 7)
    return x.reshape(outer * inner, blocks, plan.batch, plan.groups, -1, size)


def _merge_queries(plan: _Plan, x: Array, batch: int, groups: int) -> Array:
    """Invert `_split_queries`."""
    outer, inner = batch // plan.batch, groups // plan.groups
    blocks, block, size = x.shape[1], plan.query_block, x.shape[-1]
    x = x.reshape(outer, inner, blocks, plan.batch, plan.groups, block, -1, size)
    x = x.transpose(0, 3, 2, 5, 1, 4, 6, 7)
    return x.reshape(batch, blocks * block, -1, size)


def _output(plan: _Plan, q: Array, k: Array, v: Array, places: Places | None) -> Array:
    return _forward(plan, q, k, v, places)[0]


def _attend_forward(
    plan: _Plan, q: Array, k: Array, v: Array, places: Places | None
) -> tuple[Array, _Saved]:
    o, log_total = _forward(plan, q, k, v, places)
    return o, (q, k, v, places, o, log_total)


def _attend_backward(plan: _Plan, saved: _Saved, o_bar: Array) -> tuple:
    return *_backward(plan, *saved, o_bar), None


_attend = jax.custom_vjp(_output, nondiff_argnums=(0,))
_attend.defvjp(_attend_forward, _attend_backward)


class _Tiles:
    """Tiles of keys and values, and visits to them, in one sweep over the queries."""

    def __init__(
        self,
        plan: _Plan,
        sweep: Array,
        k: Array,
        places: Places | None,
        visits: tuple[Array, Array] | None,
    ):
        self.plan = plan
        inner = k.shape[2] // plan.groups
        self.row = sweep // inner * plan.batch
        self.group = sweep % inner * plan.groups
        self.places = places
        self.num_blocks = k.shape[1] // plan.key_block
        self.visits = visits

    def slice(self, x: Array, block: Array) -> Array:
        """Return a block of keys or values, with axes batch, groups, keys, size."""
        plan = self.plan
        sizes = (plan.batch, plan.key_block, plan.groups, x.shape[-1])
        start = (self.row, block * plan.key_block, self.group, 0)
        return _slice(x, start, sizes).swapaxes(1, 2)

    def seen(self, query_block: Array, key_block: Array) -> Array:
        """Return visibility in a tile, with axes batch, groups, keys, rows."""
        plan = self.plan
        first_query = query_block * plan.query_block
        first_key = key_block * plan.key_block
        if self.places is None:
            query = first_query + jnp.arange(plan.query_block)
            query = jnp.repeat(query, plan.repeats)[None, :]
            key = (first_key + jnp.arange(plan.key_block))[:, None]
            seen = key <= query
            if plan.window is not None:
                seen = seen & (query - key < plan.window)
            return seen[None, None]

        def part(x: Array, start: Array, size: int) -> Array:
            return _slice(x, (self.row, start), (plan.batch, size))

        query = (
            jnp.repeat(part(x, first_query, plan.query_block), plan.repeats, axis=1)
            for x in self.places[:2]
        )
        key = (part(x, first_key, plan.key_block) for x in self.places[2:])
        return sees(Places(*query, *key), plan.window, keys_first=True)[:, None]

    def sweep(self, query_block: Array, tile: _Tile, carry: Any) -> Any:
        """Fold `tile(key_block, carry, masked)` over the blocks that queries see."""
        plan, loop = self.plan, lax.fori_loop
        open_tile = functools.partial(tile, masked=False)
        masked_tile = functools.partial(tile, masked=True)
        if self.visits is not None:
            order, count = (x[query_block] for x in self.visits)
            return loop(0, count, lambda n, c: masked_tile(order[n], c), carry)
        first = query_block * plan.query_block
        last = first + plan.query_block - 1
        stop = jnp.minimum(last // plan.key_block + 1, self.num_blocks)
        open_stop = (first + 1) // plan.key_block
        if plan.window is None:
            carry = loop(0, open_stop, open_tile, carry)
            return loop(open_stop, stop, masked_tile, carry)
        start = jnp.maximum(first - plan.window + 1, 0) // plan.key_block
        oldest = jnp.maximum(last - plan.window + 1, 0)
        open_start = jnp.minimum(-(-oldest // plan.key_block), stop)
        open_stop = jnp.maximum(open_start, open_stop)
        carry = loop(start, open_start, masked_tile, carry)
        carry = loop(open_start, open_stop, open_tile, carry)
        return loop(open_stop, stop, masked_tile, carry)


def _visits(plan: _Plan, places: Places | None) -> tuple[Array, Array] | None:
    if places is None:
        return None
    return block_visits(places, plan.query_block, plan.key_block, plan.window)


def _slice(x: Array, start: tuple, sizes: tuple[int, ...]) -> Array:
    """Call `lax.dynamic_slice` with indices that may differ in type."""
    return lax.dynamic_slice(x, [jnp.asarray(i, jnp.int32) for i in start], sizes)


def _product(equation: str, left: Array, right: Array) -> Array:
    wide = jnp.promote_types(left.dtype, jnp.float32)
    return jnp.einsum(equation, left, right, preferred_element_type=wide)


def _logits(plan: _Plan, keys: Array, queries: Array) -> Array:
    return plan.scale * _product("bgsk,bgik->bgsi", keys, queries)


def _forward(
    plan: _Plan, q: Array, k: Array, v: Array, places: Places | None
) -> tuple[Array, Array]:
    """Return outputs and the logarithm of the softmax's sum, block by block."""
    wide = jnp.promote_types(q.dtype, jnp.float32)
    visits = _visits(plan, places)

    def sweep(number: Array, queries: Array) -> tuple[Array, Array]:
        tiles = _Tiles(plan, number, k, places, visits)

        def block(_: None, item: tuple) -> tuple[None, tuple]:
            index, query = item

            def tile(key_block: Array, carry: tuple, masked: bool) -> tuple:
                largest, total, o = carry
                logits = _logits(plan, tiles.slice(k, key_block), query)
                if masked:
                    seen = tiles.seen(index, key_block)
                    logits = jnp.where(seen, logits, -jnp.inf)
                new = jnp.maximum(largest, jnp.max(logits, axis=2))
                shift = jnp.where(new == -jnp.inf, 0, new)
                weight = jnp.exp(logits - shift[:, :, None])
                kept = jnp.exp(largest - shift)
                total = total * kept + jnp.sum(weight, axis=2)
                values = tiles.slice(v, key_block)
                read = _product("bgsv,bgsi->bgvi", values, weight.astype(v.dtype))
                return new, total, o * kept[:, :, None] + read

            rows = query.shape[:-1]
            empty = jnp.full(rows, -jnp.inf, wide)
            zero = jnp.zeros(rows, wide)
            o = jnp.zeros((*rows[:2], v.shape[-1], rows[2]), wide)
            largest, total, o = tiles.sweep(index, tile, (empty, zero, o))
            # A query that sees no key has output zero and weights exp(-inf).
            nothing = total == 0
            o = o / jnp.where(nothing, 1, total)[:, :, None]
            log_total = jnp.where(nothing, jnp.inf, largest + jnp.log(total))
            return None, (o.swapaxes(2, 3).astype(v.dtype), log_total)

        blocks = jnp.arange(queries.shape[0])
        return lax.scan(block, None, (blocks, queries))[1]

    return _over_sweeps(sweep, q)


def _backward(
    plan: _Plan,
    q: Array,
    k: Array,
    v: Array,
    places: Places | None,
    o: Array,
    log_total: Array,
    o_bar: Array,
) -> tuple[Array, Array, Array]:
    """Return gradients of queries, keys and values in one pass over the tiles."""
    wide = jnp.promote_types(q.dtype, jnp.float32)
    # sum_j p_ij (dp_ij) = o_i . do_i
    visits = _visits(plan, places)
    shared = jnp.sum(o.astype(wide) * o_bar.astype(wide), axis=-1)

    def sweep(number: Array, inputs: tuple) -> tuple[Array, Array, Array]:
        tiles = _Tiles(plan, number, k, places, visits)

        def block(carry: tuple, item: tuple) -> tuple[tuple, Array]:
            index, query, o_bar, log_total, shared = item

            def tile(key_block: Array, carry: tuple, masked: bool) -> tuple:
                q_bar, k_bar, v_bar = carry
                keys, values = tiles.slice(k, key_block), tiles.slice(v, key_block)
                logits = _logits(plan, keys, query)
                if masked:
                    seen = tiles.seen(index, key_block)
                    logits = jnp.where(seen, logits, -jnp.inf)
                weight = jnp.exp(logits - log_total[:, :, None])
                weight_bar = _product("bgsv,bgiv->bgsi", values, o_bar)
                logits_bar = weight * (weight_bar - shared[:, :, None])
                logits_bar = logits_bar.astype(q.dtype)
                v_bar = _add_block(
                    v_bar,
                    key_block,
                    _product("bgsi,bgiv->bgsv", weight.astype(v.dtype), o_bar),
                )
                k_bar = _add_block(
                    k_bar,
                    key_block,
                    _product("bgsi,bgik->bgsk", logits_bar, query),
                )
                q_bar = q_bar + _product("bgsk,bgsi->bgki", keys, logits_bar)
                return q_bar, k_bar, v_bar

            q_bar = jnp.zeros((*query.shape[:2], query.shape[3], query.shape[2]), wide)
            carry = (q_bar, *carry)
            q_bar, k_bar, v_bar = tiles.sweep(index, tile, carry)
            q_bar = (plan.scale * q_bar).swapaxes(2, 3).astype(q.dtype)
            return (k_bar, v_bar), q_bar

        def empty(x: Array) -> Array:
            shape = (plan.batch, plan.groups, x.shape[1], x.shape[-1])
            return jnp.zeros(shape, wide)

        blocks = jnp.arange(inputs[0].shape[0])
        carry = (empty(k), empty(v))
        (k_bar, v_bar), q_bar = lax.scan(block, carry, (blocks, *inputs))
        k_bar = (plan.scale * k_bar).astype(k.dtype)
        return q_bar, k_bar, v_bar.astype(v.dtype)

    q_bar, k_bar, v_bar = _over_sweeps(sweep, (q, o_bar, log_total, shared))
    return q_bar, _merge_keys(k_bar, k.shape), _merge_keys(v_bar, k.shape)


def _add_block(x: Array, block: Array, update: Array) -> Array:
    """Add `update` to one block of the third axis of `x`."""
    start = block * update.shape[2]
    old = lax.dynamic_slice_in_dim(x, start, update.shape[2], axis=2)
    return lax.dynamic_update_slice_in_dim(x, old + update, start, axis=2)


def _merge_keys(x: Array, shape: tuple[int, ...]) -> Array:
    """Reshape (sweeps, batch, groups, s, d) to `b s g d`."""
    batch, source, groups, _ = shape
    x = x.reshape(batch // x.shape[1], -1, *x.shape[1:])
    x = x.transpose(0, 2, 4, 1, 3, 5)
    return x.reshape(batch, source, groups, -1)


def _over_sweeps(sweep: Callable, inputs: Any) -> Any:
    """Call `sweep(number, inputs)` for every sweep in turn and stack the results."""
    count = jax.tree.leaves(inputs)[0].shape[0]
    return lax.map(lambda item: sweep(*item), (jnp.arange(count), inputs))
