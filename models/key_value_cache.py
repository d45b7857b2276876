"""Keys and values of past tokens in a ring of fixed size."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .capacity import check_slots
from .interface import Layout


class KeyValueCache(NamedTuple):
    """A ring: slot s holds the document's latest token with position s mod slots.

    Attributes:
        key: keys after rotation.
    """

    key: Float[Array, "b s g k"]
    value: Float[Array, "b s g v"]


def init_cache(
    batch_size: int, slots: int, groups: int, key_size: int, value_size: int
) -> KeyValueCache:
    """Return an empty cache, in float32.

    Raises:
        InputError: `slots` is negative.
    """
    check_slots(slots)
    return KeyValueCache(
        jnp.zeros((batch_size, slots, groups, key_size), jnp.float32),
        jnp.zeros((batch_size, slots, groups, value_size), jnp.float32),
    )


def held_positions(slots: int, position: Int[Array, "b"]) -> Int[Array, "b s"]:
    """Return the position of the token in each slot; negative if the slot is empty.

    Args:
        position: number of tokens of the document so far.
    """
    slot = jnp.arange(slots, dtype=jnp.int32)[None, :]
    last = position[:, None] - 1
    # The latest position that falls on this slot; below 0: none yet.
    return last - jnp.mod(last - slot, slots)


def extend_cache(
    cache: KeyValueCache,
    key: Float[Array, "b t g k"],
    value: Float[Array, "b t g v"],
    position: Int[Array, "b"],
    layout: Layout,
) -> KeyValueCache:
    """Return the cache after the real tokens of a call.

    Args:
        position: number of tokens of the last document after the call.
    """
    batch, slots = cache.key.shape[:2]
    time = key.shape[1]
    if slots == 0 or time == 0:
        return cache
    held = held_positions(slots, position)
    if layout.length is None:
        length = jnp.full((batch,), time, jnp.int32)
    else:
        length = layout.length
    # The last real token of the call has position `position - 1`.
    source = held - position[:, None] + length[:, None]
    new = jnp.logical_and(source >= 0, held >= 0)[:, :, None, None]
    source = jnp.clip(source, 0, time - 1)[:, :, None, None]

    def merge(old: Array, tokens: Array) -> Array:
        taken = jnp.take_along_axis(tokens.astype(old.dtype), source, axis=1)
        return jnp.where(new, taken, old)

    return KeyValueCache(merge(cache.key, key), merge(cache.value, value))


def extend_cache_token(
    cache: KeyValueCache,
    key: Float[Array, "b g k"],
    value: Float[Array, "b g v"],
    position: Int[Array, "b"],
) -> KeyValueCache:
    """Return the cache after one token at `position`; touches one slot per row."""
    batch, slots = cache.key.shape[:2]
    row = jnp.arange(batch)
    slot = jnp.mod(position, slots)
    return KeyValueCache(
        cache.key.at[row, slot].set(key.astype(cache.key.dtype)),
        cache.value.at[row, slot].set(value.astype(cache.value.dtype)),
    )


def latest_tokens(
    cache: KeyValueCache, position: Int[Array, "b"], count: int
) -> tuple[Float[Array, "b w g k"], Float[Array, "b w g v"], Int[Array, "b w"]]:
    """Return keys, values and positions of the latest tokens, newest first.

    A negative position marks a token that does not exist. A smaller cache returns all
    its slots.

    Args:
        cache: cache to read.
        position: number of tokens of the document so far.
        count: number of tokens to return.
    """
    slots = cache.key.shape[1]
    back = jnp.arange(1, min(count, slots) + 1, dtype=jnp.int32)
    latest = position[:, None] - back[None, :]
    slot = (latest % max(1, slots))[:, :, None, None]
    key, value = (jnp.take_along_axis(x, slot, axis=1) for x in cache)
    return key, value, latest
