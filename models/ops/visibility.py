"""Visibility of keys to queries, by document number and position."""

from typing import Final, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

ALWAYS_VISIBLE: Final = 2**31 - 1
"""Segment of a key that every query sees, at any position."""

_LARGEST: Final = 2**31 - 1
_SMALLEST: Final = -(2**31)


class Places(NamedTuple):
    """Document numbers (segments) and positions of queries and keys.

    No query sees a key with a negative segment; every query sees a key with segment
    `ALWAYS_VISIBLE`.
    """

    query_segment: Int[Array, "b t"]
    query_position: Int[Array, "b t"]
    key_segment: Int[Array, "b s"]
    key_position: Int[Array, "b s"]


def sees(
    places: Places, window: int | None, *, keys_first: bool = False
) -> Bool[Array, "b t s"] | Bool[Array, "b s t"]:
    """Return whether each query sees each key.

    A key is visible if it is in the same document, not later, and less than `window`
    before.

    Args:
        places: places of queries and keys.
        window: number of keys that a query sees in its document, itself included.
            None: all of them. Keys that are always visible do not count.
        keys_first: return axes batch, key, query instead of batch, query, key.
    """
    query_axis, key_axis = (1, 2) if keys_first else (2, 1)
    query_segment = jnp.expand_dims(places.query_segment, query_axis)
    query_position = jnp.expand_dims(places.query_position, query_axis)
    key_segment = jnp.expand_dims(places.key_segment, key_axis)
    key_position = jnp.expand_dims(places.key_position, key_axis)
    seen = (key_segment == query_segment) & (key_position <= query_position)
    if window is not None:
        seen = seen & (query_position - key_position < window)
    return (seen & (key_segment >= 0)) | (key_segment == ALWAYS_VISIBLE)


def block_visits(
    places: Places, query_block: int, key_block: int, window: int | None
) -> tuple[Int[Array, "queries keys"], Int[Array, " queries"]]:
    """Return the key blocks that each block of queries must visit, and their count.

    A key block is skipped if no query of the block, in any row of the batch, can see
    any of its keys. The test compares the smallest and largest segments and positions.

    Returns:
        Indices of key blocks, those to visit first and in order; their count.
    """
    segment, position = (
        x.reshape(x.shape[0], -1, 1, query_block)
        for x in (places.query_segment, places.query_position)
    )
    ours = segment >= 0
    first_segment, last_segment = _extent(segment, ours)
    first_position, last_position = _extent(position, ours)

    segment, position = (
        x.reshape(x.shape[0], 1, -1, key_block)
        for x in (places.key_segment, places.key_position)
    )
    always = segment == ALWAYS_VISIBLE
    theirs = (segment >= 0) & jnp.logical_not(always)
    first_key_segment, last_key_segment = _extent(segment, theirs)
    first_key, last_key = _extent(position, theirs)

    visit = (first_key_segment <= last_segment) & (last_key_segment >= first_segment)
    visit = visit & (first_key <= last_position)
    if window is not None:
        # Avoid overflow: without queries, the smallest position is the largest integer.
        visit = visit & (last_key > first_position - window)
    visit = jnp.any(visit | jnp.any(always, axis=-1), axis=0)
    order = jnp.argsort(jnp.logical_not(visit), axis=1, stable=True)
    return order.astype(jnp.int32), jnp.sum(visit, axis=1, dtype=jnp.int32)


def _extent(x: Array, counted: Array) -> tuple[Array, Array]:
    """Return minimum and maximum over the last axis; an empty range if none count."""
    smallest = jnp.min(jnp.where(counted, x, _LARGEST), axis=-1)
    largest = jnp.max(jnp.where(counted, x, _SMALLEST), axis=-1)
    return smallest, largest
