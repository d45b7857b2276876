"""Reads of a few keys by each query, one block of queries after another."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_LARGEST = 2**23
"""Numbers that a block may hold: 32 MiB in float32."""


def fitting_block(numbers_per_query: int) -> int:
    """Return how many queries form a block, at least 1.

    Args:
        numbers_per_query: numbers that one query holds, for the whole batch.
    """
    return max(1, _LARGEST // max(1, numbers_per_query))


def map_blocks(
    read: Callable[..., Any], tokens: tuple[Array, ...], block_size: int
) -> Array:
    """Return `read(*tokens)`, computed for blocks of tokens one after another.

    The backward pass computes every block again, so that only one block's intermediate
    values are in memory at a time.

    Args:
        read: maps arrays `b i ...` to an array `b i ...`, each token by itself.
        tokens: arrays `b t ...`.
        block_size: tokens per block.
    """
    time = tokens[0].shape[1]
    if time <= block_size:
        return read(*tokens)
    blocks = -(-time // block_size)
    block_size = -(-time // blocks)

    def split(x: Array) -> Array:
        extra = blocks * block_size - time
        x = jnp.pad(x, [(0, 0), (0, extra)] + [(0, 0)] * (x.ndim - 2))
        x = x.reshape(x.shape[0], blocks, block_size, *x.shape[2:])
        return jnp.swapaxes(x, 0, 1)

    again = jax.checkpoint(lambda each: read(*each), prevent_cse=False)
    o = jax.lax.map(again, jax.tree.map(split, tokens))
    o = jnp.swapaxes(o, 0, 1)
    return o.reshape(o.shape[0], blocks * block_size, *o.shape[3:])[:, :time]


def masked_softmax(
    logits: Float[Array, "*b n"], seen: Bool[Array, "*b n"]
) -> Float[Array, "*b n"]:
    """Return the softmax over the entries that are seen; zeros if none is seen."""
    largest = jnp.max(jnp.where(seen, logits, -jnp.inf), axis=-1, keepdims=True)
    largest = jax.lax.stop_gradient(jnp.where(jnp.isfinite(largest), largest, 0))
    # Mask before the exponential, or its gradient is not a number.
    weight = jnp.where(seen, jnp.exp(jnp.where(seen, logits - largest, 0)), 0)
    total = jnp.sum(weight, axis=-1, keepdims=True)
    return weight / jnp.where(total == 0, 1, total)
