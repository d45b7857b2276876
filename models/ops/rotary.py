"""Rotary position embedding (arXiv 2104.09864)."""

import decimal
import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, UInt

from memzoo.errors import InputError

_TWO_PI = decimal.Decimal("6.28318530717958647692528676655900576839433879875021")


class RotaryScaling(NamedTuple):
    """Slower rotations, for documents longer than those of training.

    Attributes:
        factor: factor by which rotations slow down (position interpolation,
            arXiv:2306.15595).
        original_length: length of training. None: all pairs slow down. Otherwise, with
            n the turns of a pair within this many tokens, pairs with n <= `slow` slow
            down, pairs with n >= `fast` do not, and frequencies between are
            interpolated linearly in n (the rule of Llama 3.1).
        slow: see `original_length`.
        fast: see `original_length`.
    """

    factor: float = 1.0
    original_length: int | None = None
    slow: float = 1.0
    fast: float = 4.0


def rotary(
    x: Float[Array, "b t h k"],
    position: Int[Array, "b t"],
    *,
    base: float = 10000.0,
    rotated: int | None = None,
    scaling: RotaryScaling | None = None,
) -> Float[Array, "b t h k"]:
    """Rotate pairs of channels of `x` by angles that grow with the position.

    Channel i < k/2 is paired with channel i + k/2 and rotated by
    position * base^(-2i/k), so that the inner product of two rotated vectors depends
    on the difference of their positions. At every int32 position, sines and cosines
    are off by at most 3 units of rounding of float32 (of float64 for a float64 `x`),
    as for a small angle.

    Args:
        x: queries or keys.
        position: position of every token in its document.
        base: ratio of the longest to the shortest wavelength.
        rotated: number of channels to rotate, the first ones (k in the formula); the
            others are unchanged. None: all.
        scaling: scaling of the frequencies; None: none.

    Raises:
        InputError: the number of rotated channels is odd.

    Differs from the paper in: channels are paired across halves, as current checkpoints
    expect, not with their neighbours.
    """
    size = x.shape[-1]
    if rotated is not None and rotated < size:
        part = rotary(x[..., :rotated], position, base=base, scaling=scaling)
        return jnp.concatenate([part, x[..., rotated:]], axis=-1)
    if size % 2:
        raise InputError(
            f"the key size is {size}; rotary pairs channels: give an even size"
        )
    scaling = RotaryScaling() if scaling is None else scaling
    wide = jnp.promote_types(x.dtype, jnp.float32)
    cosine, sine = (
        a[:, :, None, :]
        for a in _cosine_and_sine(position, size, float(base), scaling, wide)
    )
    first, second = jnp.split(x.astype(wide), 2, axis=-1)
    turned = (first * cosine - second * sine, second * cosine + first * sine)
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)


def _cosine_and_sine(
    position: Int[Array, "b t"],
    size: int,
    base: float,
    scaling: RotaryScaling,
    dtype: DTypeLike,
) -> tuple[Float[Array, "b t f"], Float[Array, "b t f"]]:
    """Return cosine and sine of position * base^(-2i/size), scaled, for i < size/2.

    The angle is computed in whole units of 2^-32 turns (2^-64 for float64), whose
    overflow drops whole turns: no digit of a large position is lost.
    """
    bits = 64 if jnp.dtype(dtype) == jnp.float64 else 32
    high, low = _turns_a_token(size, base, scaling, bits)
    # Unsigned integers wrap, so a negative position turns the angle back.
    magnitude = jnp.abs(position)[:, :, None].astype(high.dtype)
    turns = magnitude * high + _high_word(magnitude, low)
    # As signed integers, angles are at most half a turn, forwards or backwards.
    turns = turns.astype(f"int{bits}")
    angle = turns.astype(dtype) * jnp.asarray(2 * np.pi / 2.0**bits, dtype)
    angle = jnp.where(position[:, :, None] < 0, -angle, angle)
    # Apply no operation to these: XLA would fuse it and recompute them for every head.
    return jnp.cos(angle), jnp.sin(angle)


def _high_word(position: UInt[Array, "b t 1"], low: np.ndarray) -> UInt[Array, "b t f"]:
    """Return position * low / 2^32, at most 3 units too small; position < 2^31."""
    if low.dtype == np.uint64:
        return (position * low) >> 32
    # Build the product of 32 by 32 bits from products of 16 by 16, without overflow.
    first, second = position >> 16, position & 0xFFFF
    upper, lower = low >> 16, low & 0xFFFF
    return first * upper + ((first * lower) >> 16) + ((second * upper) >> 16)


@functools.lru_cache
def _turns_a_token(
    size: int, base: float, scaling: RotaryScaling, bits: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the turns of each pair per token, as binary digits after the point.

    Returns:
        The first `bits` digits, and the next 32. Both are unsigned integers of `bits`
        bits, shaped (1, 1, size / 2).
    """
    with decimal.localcontext(decimal.Context(prec=50)):
        turns = [
            decimal.Decimal(base) ** (decimal.Decimal(-2 * i) / size) / _TWO_PI
            for i in range(size // 2)
        ]
        turns = [each * _slower(each, scaling) for each in turns]
        digits = [int(each * 2 ** (bits + 32)) for each in turns]
    high = np.array([[[each >> 32 for each in digits]]], f"uint{bits}")
    low = np.array([[[each & 0xFFFFFFFF for each in digits]]], f"uint{bits}")
    return high, low


def _slower(turns: decimal.Decimal, scaling: RotaryScaling) -> decimal.Decimal:
    """Return the factor of a pair's frequency, given its turns per token."""
    slowed = 1 / decimal.Decimal(scaling.factor)
    if scaling.original_length is None:
        return slowed
    number = turns * scaling.original_length
    slow, fast = decimal.Decimal(scaling.slow), decimal.Decimal(scaling.fast)
    share = min(max((number - slow) / (fast - slow), 0), 1)
    return slowed + share * (1 - slowed)
