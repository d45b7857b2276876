"""Memories at the ends of segments: writing, choosing, weighing and reading them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from .associative_memory import AssociativeMemory
from .interface import Layout
from .memory_inputs import MemoryInputs
from .ops.recurrence import select
from .ops.segment_pieces import Pieces, from_pieces, take, to_pieces


class Cache(NamedTuple):
    """Memories of segments, with the second axis for the segments.

    Attributes:
        memory: the memory after each segment.
        mean: mean of the layer's inputs in each segment, float32.
    """

    memory: PyTree[Array]
    mean: Float[Array, "b m d"]


class Snapshots(NamedTuple):
    """Memories of segments, and which segments they are.

    Attributes:
        cache: the memories.
        segment: number of the segment in its document; -1: none.
        document: number of its document in the call; 0 is the carried document.
    """

    cache: Cache
    segment: Int[Array, "b m"]
    document: Int[Array, "b m"]


def empty_cache(memory: PyTree[Array], slots: int, width: int) -> Cache:
    """Return a cache of zeros with the given number of slots."""
    batch = jax.tree.leaves(memory)[0].shape[0]

    def zeros(x: Array) -> Array:
        return jnp.zeros((batch, slots, *x.shape[1:]), x.dtype)

    return Cache(
        jax.tree.map(zeros, memory), jnp.zeros((batch, slots, width), jnp.float32)
    )


def write_segments(
    layer: AssociativeMemory,
    inputs: MemoryInputs,
    x: Float[Array, "b t d"],
    place: Int[Array, "b t"],
    pieces: Pieces,
    reset: Bool[Array, "b t"] | None,
    memory: PyTree[Array],
    total: Float[Array, "b d"],
) -> tuple[Array, Array, Cache, PyTree[Array], Array]:
    """Write every token, piece by piece.

    Args:
        layer: layer of the memory.
        inputs: inputs of the memory.
        x: the layer's input.
        place: position of each token in its document.
        pieces: pieces of the row.
        reset: True where the memory becomes that of a new document.
        memory: memory before the first token.
        total: sum of the inputs of the carried segment so far.

    Returns:
        The reads `b t h v`, the mean input of each token's segment so far `b t d`,
        memory and mean after each piece, and the last memory and sum.
    """
    size = pieces.token.shape[2]
    plain = inputs._replace(skip=None, after=None, valid=None)
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))

    @jax.checkpoint
    def write(held: tuple, piece: tuple) -> tuple[tuple, tuple]:
        (memory, total), (plain, x, place, reset, real) = held, piece
        # The places after a piece repeat tokens of the next one.
        reset = None if reset is None else reset & real
        read, memory = layer.write_and_read(plain.only(real), memory, reset)
        segment = jnp.cumsum(real & (place % size == 0), axis=1)
        causal = jnp.tril(jnp.ones((size, size), bool))[None]
        same = (segment[:, :, None] == segment[:, None, :]) & causal & real[:, None, :]
        sums = jnp.einsum("bts,bsd->btd", same.astype(x.dtype), x)
        sums = sums + jnp.where((segment == 0)[..., None], total[:, None, :], 0)
        mean = sums / (place % size + 1).astype(x.dtype)[..., None]
        # After the last real token the sums stay the same.
        return (memory, sums[:, -1].astype(total.dtype)), (read, mean)

    def body(held: tuple, piece: tuple) -> tuple[tuple, tuple]:
        shapes = jax.eval_shape(write, held, piece)[1]

        def skip(held: tuple, piece: tuple) -> tuple[tuple, tuple]:
            del piece
            return held, jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)

        held, (read, mean) = jax.lax.cond(jnp.any(piece[-1]), write, skip, held, piece)
        return held, (read, mean, held[0])

    cut = to_pieces((plain, wide, place, reset), pieces)
    real = jnp.moveaxis(pieces.real, 1, 0)
    (memory, total), (read, mean, after) = jax.lax.scan(
        body, (memory, total), (*cut, real)
    )
    mean = from_pieces(mean, pieces)
    after = jax.tree.map(lambda a: jnp.moveaxis(a, 0, 1), after)
    means = take(mean, pieces.last).astype(total.dtype)
    return from_pieces(read, pieces), mean, Cache(after, means), memory, total


def join(
    cache: Cache, done: Int[Array, "b"], made: Snapshots | None = None
) -> Snapshots:
    """Return the cached memories, followed by those of this call.

    Args:
        cache: cache before the call.
        done: number of segments that were complete before the call.
        made: memories of this call; None: there are none.
    """
    index = segments_of_slots(done, cache.mean.shape[1])
    held = Snapshots(cache, index, jnp.zeros_like(index))
    if made is None:
        return held
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), held, made)


def segments_of_slots(done: Int[Array, "b"], slots: int) -> Int[Array, "b m"]:
    """Return the segment in each slot of a ring after `done` segments; -1: none."""
    slot = jnp.arange(slots, dtype=jnp.int32)[None, :]
    if slots == 0:
        return slot + done[:, None]
    newest = done[:, None] - 1
    index = newest - (newest - slot) % slots
    return jnp.maximum(index, -1)


def visible_snapshots(
    snapshots: Snapshots,
    segment: Int[Array, "b t"],
    document: Int[Array, "b t"],
    limit: int | None,
) -> Bool[Array, "b t m"]:
    """Return which memories each token may read: earlier segments of its document.

    Args:
        snapshots: memories of segments.
        segment: number of each token's segment in its document.
        document: number of each token's document in the call.
        limit: number of latest segments that are kept; None: all.
    """
    index = snapshots.segment[:, None, :]
    seen = (index >= 0) & (index < segment[:, :, None])
    seen = seen & (snapshots.document[:, None, :] == document[:, :, None])
    return seen if limit is None else seen & (index >= segment[:, :, None] - limit)


def weigh(
    query: Float[Array, "b t d"] | None,
    mean: Float[Array, "b t d"],
    cached: Float[Array, "b m d"],
    seen: Bool[Array, "b t m"],
    top_k: int | None,
) -> tuple[Float[Array, "b t"], Float[Array, "b t m"]]:
    """Return each token's weight of the current memory, and of the cached ones.

    Args:
        query: query of each token; None: all weights are 1.
        mean: mean input of the token's segment so far.
        cached: mean inputs of the cached segments.
        seen: mask of the cached memories that the token may read.
        top_k: number of cached memories with a weight; None: all.
    """
    if query is None:
        return jnp.ones(mean.shape[:2], jnp.float32), seen.astype(jnp.float32)
    current = jnp.sum(query * mean.astype(query.dtype), axis=2)
    score = jnp.einsum("btd,bmd->btm", query, cached.astype(query.dtype))
    if top_k is not None and top_k < seen.shape[2]:
        _, best = jax.lax.top_k(jnp.where(seen, score, -jnp.inf), top_k)
        number = jnp.arange(seen.shape[2])[None, None, None, :]
        seen = seen & jnp.any(best[..., None] == number, axis=2)
    both = jnp.concatenate([current[..., None], jnp.where(seen, score, -jnp.inf)], 2)
    weight = jax.nn.softmax(both, axis=2)
    return weight[..., 0], weight[..., 1:]


def read_cached(
    layer: AssociativeMemory,
    query: Float[Array, "b t h k"],
    memories: PyTree[Array],
    weight: Float[Array, "b t m"],
) -> Float[Array, "b t h v"] | float:
    """Return the weighted sum of the reads of all cached memories, one at a time."""
    if weight.shape[2] == 0:
        return 0.0

    def read(memory: PyTree[Array], weight: Float[Array, "b t"]) -> Array:
        found = layer.read(query, memory)
        found = found.astype(jnp.promote_types(found.dtype, jnp.float32))
        return found * weight[..., None, None]

    first = jax.tree.map(lambda a: a[:, 0], memories)
    shape = jax.eval_shape(read, first, weight[..., 0])

    def body(total: Array, one: tuple) -> tuple[Array, None]:
        found = jax.lax.cond(
            jnp.any(one[1] > 0),
            jax.checkpoint(read),
            lambda *_: jnp.zeros(shape.shape, shape.dtype),
            *one,
        )
        return total + found, None

    each = jax.tree.map(lambda a: jnp.moveaxis(a, 1, 0), memories)
    zeros = jnp.zeros(shape.shape, shape.dtype)
    total, _ = jax.lax.scan(body, zeros, (each, jnp.moveaxis(weight, 2, 0)))
    return total


def update_cache(
    snapshots: Snapshots,
    cache: Cache,
    done: Int[Array, "b"],
    document: Int[Array, "b t"],
    layout: Layout,
) -> Cache:
    """Return the cache after a call; slots of dropped segments are zero.

    Args:
        snapshots: memories of the cache, followed by those of the call.
        cache: cache before the call.
        done: number of complete segments of each row's last document.
        document: number of each token's document in the call.
        layout: layout of the rows.
    """
    slots = cache.mean.shape[1]
    if slots == 0:
        return cache
    time = document.shape[1]
    end = time if layout.length is None else layout.length[:, None]
    index = jnp.arange(time, dtype=jnp.int32)[None, :]
    current = jnp.max(jnp.where(index < end, document, 0), axis=1)
    wanted = segments_of_slots(done, slots)[:, :, None]
    found = (snapshots.segment[:, None, :] == wanted) & (wanted >= 0)
    found = found & (snapshots.document == current[:, None])[:, None, :]
    source = jnp.argmax(found, axis=2)
    held: Any = jax.tree.map(lambda a: take(a, source), snapshots.cache)
    return select(jnp.any(found, axis=2), held, jax.tree.map(jnp.zeros_like, held))
