"""Counter-based random generator: every draw is a pure function of integers.

Value number `c` of a key is SplitMix64's output `c` for the seed `key` (Steele, Lea and
Flood, "Fast splittable pseudorandom number generators", 2014). The same mixing makes a
key from a seed and a path of numbers. Only 64-bit integer arithmetic is used, so the
bytes are the same on every platform and in any order of calls.
"""

import functools
from decimal import Context, Decimal

import numpy as np
from jaxtyping import Int, Int64, UInt64

from memzoo.errors import InputError

_GAMMA = 0x9E3779B97F4A7C15
_PATH = 0xD1B54A32D192ED03
_INDEX = 0x8CB92BA72F3D8DD7
_LOG_BITS = 11
_FRACTION_BITS = 25


def mix(x: UInt64[np.ndarray, "..."]) -> UInt64[np.ndarray, "..."]:
    """Apply SplitMix64's finaliser, a bijection in which every bit depends on every
    bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def key(
    seed: int, *path: int, index: Int[np.ndarray, "b"] | None = None
) -> UInt64[np.ndarray, "b"]:
    """Return one key per index, from a seed and a path of numbers that names a stream.

    Args:
        seed: any integer; taken modulo 2^64.
        path: numbers that distinguish streams: split, purpose, epoch.
        index: numbers of the examples, not negative. `None`: one key, of index 0.
    """
    # Mixing each number first keeps (seed 0, path 1) distinct from (seed 1, path 0).
    x = mix(_word(seed + _GAMMA))
    for number in path:
        x = mix(x ^ mix(_word(number + _PATH)))
    if index is None:
        index = np.zeros(1, np.int64)
    return mix(x ^ mix(index.astype(np.uint64) + _word(_INDEX)))


def bits(
    keys: UInt64[np.ndarray, "b"], count: int, start: int = 0
) -> UInt64[np.ndarray, "b {count}"]:
    """Return values `start` to `start + count` of every key, uniform over 64 bits."""
    counters = np.arange(start + 1, start + count + 1, dtype=np.uint64)
    return mix(keys[:, None] + counters * np.uint64(_GAMMA))


def bounded(
    words: UInt64[np.ndarray, "*shape"], size: int
) -> Int64[np.ndarray, "*shape"]:
    """Return integers in `[0, size)` from uniform words, as `floor(word * size /
    2^64)`.

    No probability is off by more than 2^-64. `size` is at most 2^32.
    """
    if not 0 < size <= 2**32:
        raise InputError(f"size is {size}; it must lie in [1, 2^32]")
    n, half = np.uint64(size), np.uint64(32)
    low = (words & np.uint64(0xFFFFFFFF)) * n
    return (((words >> half) * n + (low >> half)) >> half).astype(np.int64)


def distinct(
    keys: UInt64[np.ndarray, "b"], count: int, size: int
) -> Int64[np.ndarray, "b {count}"]:
    """Return `count` different integers in `[0, size)` for every key, in random order.

    They are the first `count` different values of an endless sequence of uniform draws,
    which equals drawing without replacement.
    """
    if not 0 <= count <= size:
        raise InputError(f"cannot draw {count} different integers from {size}")
    if 2 * count >= size:
        return np.argsort(bits(keys, size), axis=1, kind="stable")[:, :count]
    drawn = count + count * count // size + 4
    rows = np.arange(len(keys))
    out = np.empty((len(keys), count), np.int64)
    while len(rows):
        values = bounded(bits(keys[rows], drawn), size)
        first = _first_occurrence(values)
        enough = first.sum(axis=1) >= count
        chosen = first & (np.cumsum(first, axis=1) <= count)
        out[rows[enough]] = values[enough][chosen[enough]].reshape(-1, count)
        rows, drawn = rows[~enough], 2 * drawn
    return out


def permutation(
    keys: UInt64[np.ndarray, "1"], size: int
) -> Int64[np.ndarray, "{size}"]:
    """Return the integers in `[0, size)`, shuffled."""
    return np.argsort(bits(keys, size)[0], kind="stable")


def exponential(words: UInt64[np.ndarray, "*shape"]) -> UInt64[np.ndarray, "*shape"]:
    """Return exponential variates as integers, in units of `ln 2 / 2^25`, below 2^31.

    They are `-log2` of the upper 53 bits as a fraction of 2^53, from a table with
    linear interpolation; the error is below 2^-23.
    """
    # Integers below 2^53 and their exponents are exact in float64.
    x = (words >> np.uint64(11)) | np.uint64(1)
    exponent = np.frexp(x.astype(np.float64))[1].astype(np.uint64)
    mantissa = (x << (np.uint64(53) - exponent)) & np.uint64(2**52 - 1)
    rest_bits = np.uint64(52 - _LOG_BITS)
    place = mantissa >> rest_bits
    rest = mantissa & ((np.uint64(1) << rest_bits) - np.uint64(1))
    table = _log2_table()
    low, high = table[place], table[place + np.uint64(1)]
    logarithm = low + (((high - low) * rest) >> rest_bits)
    whole = (np.uint64(54) - exponent) << np.uint64(_FRACTION_BITS)
    return whole - logarithm


def _word(number: int) -> UInt64[np.ndarray, "1"]:
    """Return the number modulo 2^64."""
    return np.array([number % 2**64], np.uint64)


def _first_occurrence(values: Int64[np.ndarray, "b m"]) -> np.ndarray:
    """Return a mask of the values that occur in their row for the first time."""
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    new = np.ones(values.shape, bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.empty_like(new)
    np.put_along_axis(first, order, new, axis=1)
    return first


@functools.cache
def _log2_table() -> UInt64[np.ndarray, "n"]:
    """Return `log2(1 + i / 2048)` in units of 2^-25, rounded from exact decimals."""
    context = Context(prec=24)
    two = context.ln(Decimal(2))
    size = 2**_LOG_BITS
    entries = []
    for i in range(size + 1):
        logarithm = context.ln(context.divide(Decimal(size + i), Decimal(size)))
        scaled = context.multiply(context.divide(logarithm, two), 2**_FRACTION_BITS)
        entries.append(int(context.to_integral_value(scaled)))
    return np.array(entries, np.uint64)
