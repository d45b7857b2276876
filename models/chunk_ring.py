"""A ring of the last chunks of a document, with a summary of every chunk."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .capacity import check_slots
from .interface import Layout
from .key_value_cache import (
    KeyValueCache,
    extend_cache,
    extend_cache_token,
    held_positions,
    init_cache,
)
from .ops.chunk_attention import Chunks


class ChunkRing(NamedTuple):
    """The last chunks of a document, the unfinished one included.

    Attributes:
        cache: keys and values; every c slots hold one chunk.
        summary_sum: sum of the summary features of the tokens of each chunk.
    """

    cache: KeyValueCache
    summary_sum: Float[Array, "b n f"]

    @property
    def chunk_size(self) -> int:
        """Number of slots of a chunk; 1 if the ring is empty."""
        return self.cache.key.shape[-3] // max(1, self.summary_sum.shape[-2])


class NumberedChunks(NamedTuple):
    """Chunks, and where they are.

    Attributes:
        chunks: keys, values and summaries.
        segment: document of each chunk in the call, 0 for the carried one; -1: the
            place holds no complete chunk.
        number: number of each chunk in its document.
    """

    chunks: Chunks
    segment: Int[Array, "b n"]
    number: Int[Array, "b n"]


def init_ring(
    batch_size: int,
    max_length: int,
    *,
    chunk_size: int,
    most_chunks: int,
    heads: int,
    head_size: int,
    summary_size: int,
) -> ChunkRing:
    """Return an empty ring in float32, for `max_length` tokens or `most_chunks` chunks.

    Raises:
        InputError: `max_length` is negative.
    """
    check_slots(max_length)
    number = min(most_chunks, -(-max_length // chunk_size))
    return ChunkRing(
        init_cache(batch_size, number * chunk_size, heads, head_size, head_size),
        jnp.zeros((batch_size, number, summary_size), jnp.float32),
    )


def ring_chunks(ring: ChunkRing, position: Int[Array, "b"]) -> NumberedChunks:
    """Return the chunks in a ring; only complete ones have a segment.

    Args:
        ring: a ring that is not empty.
        position: number of tokens of the document so far.
    """
    size = ring.chunk_size
    number = ring.summary_sum.shape[1]

    def split(x: Array) -> Array:
        return x.reshape(x.shape[0], number, size, *x.shape[2:])

    held = split(held_positions(number * size, position))
    first = held[:, :, 0]
    complete = jnp.logical_and(first >= 0, held[:, :, -1] == first + size - 1)
    key, value = map(split, ring.cache)
    chunks = Chunks(key, value, ring.summary_sum / size)
    return NumberedChunks(chunks, jnp.where(complete, 0, -1), first // size)


def completed_chunks(
    ring: ChunkRing,
    key: Float[Array, "b t h k"],
    value: Float[Array, "b t h v"],
    feature: Float[Array, "b t f"],
    position: Int[Array, "b"],
    layout: Layout,
    chunk_size: int,
) -> NumberedChunks:
    """Return the chunks that end in a call.

    Args:
        ring: ring before the call; it holds the first tokens of a chunk that began
            earlier.
        key: keys of the call.
        value: values of the call.
        feature: summary features of the call; a summary is their mean.
        position: number of tokens of the carried document before the call.
        layout: documents and padding.
        chunk_size: tokens of a chunk.
    """
    batch, time = key.shape[:2]
    slots = ring.cache.key.shape[1]
    place, _ = layout.positions(position, time)
    segment, valid = layout.segments(time), layout.valid(time)
    ends = place % chunk_size == chunk_size - 1
    if valid is not None:
        ends = jnp.logical_and(ends, valid)
    number = -(-time // chunk_size)
    index = jnp.where(ends, jnp.cumsum(ends, axis=1) - 1, number)
    end = jnp.full((batch, number), time, jnp.int32)
    end = end.at[jnp.arange(batch)[:, None], index].set(
        jnp.arange(time, dtype=jnp.int32)[None, :], mode="drop"
    )
    real = end < time
    end = jnp.minimum(end, time - 1)
    # Negative for tokens from before the call, which are in the ring.
    back = jnp.arange(chunk_size - 1, -1, -1, dtype=jnp.int32)
    source = end[:, :, None] - back[None, None, :]
    token = jnp.maximum(source, 0)
    if slots:
        earlier = (position[:, None, None] + source) % slots
        where = jnp.where(source >= 0, slots + source, earlier)
    else:
        where = token

    def take(held: Array, new: Array) -> Array:
        whole = jnp.concatenate([held.astype(new.dtype), new], axis=1)
        return take_tokens(whole, where)

    total = jnp.where((source >= 0)[..., None], take_tokens(feature, token), 0)
    total = jnp.sum(total, axis=2)
    if slots:
        begun = (position // chunk_size) % ring.summary_sum.shape[1]
        begun = ring.summary_sum[jnp.arange(batch), begun][:, None]
        total = total + jnp.where(source[:, :, :1] < 0, begun, 0)
    chunks = Chunks(
        take(ring.cache.key, key), take(ring.cache.value, value), total / chunk_size
    )
    which = jnp.zeros_like(end)
    if segment is not None:
        which = jnp.take_along_axis(segment, end, axis=1)
    return NumberedChunks(
        chunks,
        jnp.where(real, which, -1),
        jnp.take_along_axis(place, end, axis=1) // chunk_size,
    )


def extend_ring(
    ring: ChunkRing,
    key: Float[Array, "b t h k"],
    value: Float[Array, "b t h v"],
    feature: Float[Array, "b t f"],
    position: Int[Array, "b"],
    layout: Layout,
) -> ChunkRing:
    """Return the ring after the real tokens of a call.

    Args:
        ring: ring before the call.
        key: keys of the call.
        value: values of the call.
        feature: summary features of the call.
        position: number of tokens of the last document after the call.
        layout: documents and padding.
    """
    number, size, time = ring.summary_sum.shape[1], ring.chunk_size, key.shape[1]
    if number == 0 or time == 0:
        return ring
    cache = extend_cache(ring.cache, key, value, position, layout)
    length = time if layout.length is None else layout.length[:, None, None]
    held = held_positions(number * size, position).reshape(-1, number, size)
    # Index in the call of each token held; negative: from before the call.
    source = held - position[:, None, None] + length
    # The slots after the newest token still hold tokens of an older chunk.
    same = held == held[:, :, :1] + jnp.arange(size, dtype=jnp.int32)[None, None, :]
    new = (held >= 0) & (source >= 0) & same
    added = take_tokens(feature, jnp.clip(source, 0, time - 1))
    added = jnp.sum(jnp.where(new[..., None], added, 0), axis=2)
    begun = jnp.where(new[:, :, :1], 0, ring.summary_sum)
    return ChunkRing(cache, begun + added.astype(begun.dtype))


def extend_ring_token(
    ring: ChunkRing,
    key: Float[Array, "b h k"],
    value: Float[Array, "b h v"],
    feature: Float[Array, "b f"],
    position: Int[Array, "b"],
) -> ChunkRing:
    """Return the ring after one token at `position`; touches one slot per row."""
    size = ring.chunk_size
    cache = extend_cache_token(ring.cache, key, value, position)
    row = jnp.arange(key.shape[0])
    chunk = (position // size) % ring.summary_sum.shape[1]
    begun = jnp.where((position % size == 0)[:, None], 0, ring.summary_sum[row, chunk])
    total = begun + feature.astype(begun.dtype)
    return ChunkRing(cache, ring.summary_sum.at[row, chunk].set(total))


def take_tokens(
    x: Float[Array, "b t *rest"], index: Int[Array, "b n c"]
) -> Float[Array, "b n c *rest"]:
    """Return the tokens of each row at the given indices."""
    rows, chunks, size = index.shape
    flat = index.reshape(rows, chunks * size)
    taken = jnp.take_along_axis(x, flat.reshape(*flat.shape, *[1] * (x.ndim - 2)), 1)
    return taken.reshape(*index.shape, *x.shape[2:])
