"""Digests of arrays, independent of how the arrays are sharded.

Integer arithmetic on the devices gives the same value for any mesh and any number of
processes, without gathering. A bijection mixes every word, so that one changed bit
always changes the digest.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt32

from .sharding import replicated

# [shape, type, hexadecimal digits]
Digest = list[Any]


def digests(arrays: Mapping[str, Array]) -> dict[str, Digest]:
    """Return shape, type and digest of every array, by path."""
    if not arrays:
        return {}
    place = None
    first = next(iter(arrays.values()))
    if isinstance(first.sharding, jax.sharding.NamedSharding):
        place = replicated(first.sharding.mesh)
    names = sorted(arrays)
    values = jax.jit(_digest_all, out_shardings=place)([arrays[n] for n in names])
    return {
        name: [*signature(arrays[name]), f"{int(a):08x}{int(b):08x}"]
        for name, (a, b) in zip(names, jax.device_get(values), strict=True)
    }


def signature(leaf: Any) -> list[Any]:
    """Return shape and type of an array, or of its description, as JSON values."""
    return [list(leaf.shape), str(leaf.dtype)]


def _digest_all(arrays: list[Array]) -> UInt32[Array, "n 2"]:
    return jnp.stack([_digest(a) for a in arrays])


def _digest(array: Array) -> UInt32[Array, "2"]:
    words = _words(array)
    # Mix in the position through every axis: a flat index would reshape sharded axes.
    place = jnp.zeros(words.shape, jnp.uint32)
    for axis in range(words.ndim):
        index = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
        place = _mix(place * jnp.uint32(31) + index + jnp.uint32(0x9E3779B9))
    # Sums modulo 2^32 do not depend on the order.
    sums = [
        jnp.sum(_mix(words ^ _mix(place + jnp.uint32(salt))), dtype=jnp.uint32)
        for salt in (1, 2)
    ]
    return jnp.stack(sums)


def _words(array: Array) -> Array:
    """Return an array's bytes as 32-bit words; 64-bit types get a last axis of two."""
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    if array.dtype == jnp.bool_:
        array = array.astype(jnp.uint8)
    size = array.dtype.itemsize
    if size == 8:
        return jax.lax.bitcast_convert_type(array, jnp.uint32)
    word = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[size]
    return jax.lax.bitcast_convert_type(array, word).astype(jnp.uint32)


def _mix(x: Array) -> Array:
    """Apply the finaliser of MurmurHash3, a bijection of 32-bit words."""
    x ^= x >> 16
    x *= jnp.uint32(0x85EBCA6B)
    x ^= x >> 13
    x *= jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
