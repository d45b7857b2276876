"""Causal depthwise convolution over a few tokens, by shift and add."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from memzoo.errors import InputError


def short_convolution(
    x: Float[Array, "b t d"],
    kernel: Float[Array, "w d"],
    tail: Float[Array, "b tail d"],
    *,
    reset: Bool[Array, "b t"] | None = None,
    length: Int[Array, "b"] | None = None,
    bias: Float[Array, "d"] | None = None,
) -> tuple[Float[Array, "b t d"], Float[Array, "b tail d"]]:
    """Return the convolved sequence, and its last w - 1 tokens as the new tail.

    y_t = sum_j kernel[w - 1 - j] x_{t - j}, where x before the sequence is the tail.

    Args:
        x: tokens.
        kernel: one filter per channel; its last row multiplies the current token.
        tail: the w - 1 tokens before x, zeros at a document's start.
        reset: True where a document begins; no filter reaches across a start.
        length: number of real tokens, at the front of each row. None: all.
        bias: bias added to the output.

    Raises:
        InputError: the tail does not hold w - 1 tokens.
    """
    _check_tail(kernel, tail)
    reach, time = kernel.shape[0] - 1, x.shape[1]
    dtype = jnp.result_type(x, kernel, tail)
    tokens = jnp.concatenate([tail.astype(dtype), x.astype(dtype)], axis=1)
    segment = None
    if reset is not None:
        segment = jnp.cumsum(reset, axis=1, dtype=jnp.int32)
        segment = jnp.pad(segment, ((0, 0), (reach, 0)))
    y = jnp.zeros(x.shape, dtype)
    # Spread a filter over time by a product with ones, so that its gradient is a
    # product too: XLA's own sum over time took 10 times longer on a CPU.
    ones = jnp.ones((time,), dtype)
    for row in range(reach + 1):
        tap = tokens[:, row : row + time]
        if segment is not None and row < reach:
            same = segment[:, row : row + time] == segment[:, reach:]
            tap = jnp.where(same[:, :, None], tap, 0)
        weights = kernel[row].astype(dtype)
        spread = jnp.einsum("t,d->td", ones, weights, precision="highest")
        y = y + spread[None] * tap
    if bias is not None:
        y = y + bias[None, None].astype(dtype)
    new_tail = _tail(tokens, segment, length, reach)
    return y.astype(x.dtype), new_tail.astype(tail.dtype)


def short_convolution_step(
    x: Float[Array, "b d"],
    kernel: Float[Array, "w d"],
    tail: Float[Array, "b tail d"],
    bias: Float[Array, "d"] | None = None,
) -> tuple[Float[Array, "b d"], Float[Array, "b tail d"]]:
    """Return one convolved token, and the last w - 1 tokens as the new tail.

    Args:
        x: the token.
        kernel: as in `short_convolution`.
        tail: the w - 1 tokens before it.
        bias: added to the output.

    Raises:
        InputError: the tail does not hold w - 1 tokens.
    """
    y, tail = short_convolution(x[:, None], kernel, tail, bias=bias)
    return y[:, 0], tail


def previous_token(
    x: Float[Array, "b t d"],
    tail: Float[Array, "b 1 d"],
    *,
    reset: Bool[Array, "b t"] | None = None,
    length: Int[Array, "b"] | None = None,
) -> tuple[Float[Array, "b t d"], Float[Array, "b 1 d"]]:
    """Return the token before each token of `x`, and the last token as the new tail.

    Args:
        x: tokens.
        tail: the token before x, zeros at a document's start.
        reset: True where a document begins; the token before its first is zero.
        length: number of real tokens, at the front of each row. None: all.
    """
    tokens = jnp.concatenate([tail.astype(x.dtype), x], axis=1)
    previous = tokens[:, :-1]
    if reset is not None:
        previous = jnp.where(reset[:, :, None], 0, previous)
    return previous, _tail(tokens, None, length, 1).astype(tail.dtype)


def _check_tail(kernel: Float[Array, "w d"], tail: Float[Array, "b tail d"]) -> None:
    if tail.shape[1] != kernel.shape[0] - 1:
        raise InputError(
            f"tail has {tail.shape[1]} tokens; for a kernel of {kernel.shape[0]} rows "
            f"give {kernel.shape[0] - 1}"
        )


def _tail(
    tokens: Float[Array, "b s d"],
    segment: Int[Array, "b s"] | None,
    length: Int[Array, "b"] | None,
    reach: int,
) -> Float[Array, "b tail d"]:
    """Return the last `reach` real tokens, zero where they are of another document."""
    if reach == 0:
        return tokens[:, :0]
    time = tokens.shape[1] - reach
    if length is None:
        tail = tokens[:, time:]
        place = None
    else:
        place = length[:, None] + jnp.arange(reach, dtype=jnp.int32)[None, :]
        tail = jnp.take_along_axis(tokens, place[:, :, None], axis=1)
    if segment is None:
        return tail
    if place is None:
        segment = segment[:, time:]
    else:
        segment = jnp.take_along_axis(segment, place, axis=1)
    same = segment == segment[:, -1:]
    return jnp.where(same[:, :, None], tail, 0)
