"""Documents, padding and prefixes of a batch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from .ops.places import places


class SequenceInfo(NamedTuple):
    """Information about the tokens of a sequence; each field is optional.

    Attributes:
        reset: True where a document begins: memory and position are reset.
        valid: True for real tokens. Padding leaves the state unchanged, bit for bit,
            and its output is zero; a reset on it is ignored.
        prefix: True for tokens to read non-causally. A document's prefix is its marked
            tokens up to the first unmarked one. It must lie within one call; marked
            tokens elsewhere are read causally.
        key: random key for draws in training. Without it nothing is drawn, and layers
            depend on their inputs alone.
    """

    reset: Bool[Array, "b t"] | None = None
    valid: Bool[Array, "b t"] | None = None
    prefix: Bool[Array, "b t"] | None = None
    key: Key[Array, ""] | None = None


class TokenInfo(NamedTuple):
    """`SequenceInfo` for one token per row."""

    reset: Bool[Array, "b"] | None = None
    valid: Bool[Array, "b"] | None = None
    prefix: Bool[Array, "b"] | None = None


class Layout(NamedTuple):
    """`SequenceInfo` after the real tokens of every row are moved to the front.

    Attributes:
        reset: True where a document begins.
        length: number of real tokens in the row, with padding after them. `None`: all.
        prefix: marks of prefixes; `prefix_tokens` returns the tokens of prefixes.
        key: random key for draws in training; None: nothing is drawn.
    """

    reset: Bool[Array, "b t"] | None = None
    length: Int[Array, "b"] | None = None
    prefix: Bool[Array, "b t"] | None = None
    key: Key[Array, ""] | None = None

    def with_own_key(self, number: int | Int[Array, ""]) -> "Layout":
        """Return the layout with a separate random key for one of many layers."""
        if self.key is None:
            return self
        return self._replace(key=jax.random.fold_in(self.key, number))

    def valid(self, time: int) -> Bool[Array, "b t"] | None:
        """Return the mask of real tokens; None: all are real."""
        if self.length is None:
            return None
        return jnp.arange(time)[None, :] < self.length[:, None]

    def positions(
        self, position: Int[Array, "b"], time: int
    ) -> tuple[Int[Array, "b t"], Int[Array, "b"]]:
        """Return every token's position in its document, and the next token's.

        Args:
            position: position of the first token if it does not begin a document.
            time: number of tokens in the call.
        """
        return places(position, time, reset=self.reset, length=self.length)

    def prefix_tokens(
        self, position: Int[Array, "b"], time: int
    ) -> Bool[Array, "b t"] | None:
        """Return a mask of the prefixes: each document's marked tokens up to a gap.

        A document that began in an earlier call has no prefix.

        Args:
            position: position of the first token if it does not begin a document.
            time: number of tokens in the call.
        """
        if self.prefix is None:
            return None
        place, _ = self.positions(position, time)
        index = jnp.arange(time, dtype=jnp.int32)[None, :]
        start = jax.lax.cummax(jnp.where(place == 0, index, -1), axis=1)
        gap = jax.lax.cummax(jnp.where(self.prefix, -1, index), axis=1)
        return jnp.logical_and(start >= 0, gap < start)

    def segments(self, time: int) -> Int[Array, "b t"] | None:
        """Return each token's document number in the call; 0 is the carried document.

        None: no document begins in the call.
        """
        if self.reset is None:
            return None
        return jnp.cumsum(self.reset, axis=1, dtype=jnp.int32)


def pack(
    x: Float[Array, "b t d"], info: SequenceInfo, valid: Bool[Array, "b t"]
) -> tuple[Float[Array, "b t d"], Layout, Int[Array, "b t"]]:
    """Move the real tokens of every row to the front, in order.

    Returns:
        The moved tokens, their layout, and the index that moved them.
    """
    order = jnp.argsort(jnp.logical_not(valid), axis=1, stable=True)

    def move(mask: Array | None) -> Array | None:
        if mask is None:
            return None
        return jnp.take_along_axis(jnp.logical_and(mask, valid), order, axis=1)

    packed = jnp.take_along_axis(x, order[:, :, None], axis=1)
    # Padding must have no influence, even if it is not finite.
    length = jnp.sum(valid, axis=1, dtype=jnp.int32)
    layout = Layout(move(info.reset), length, move(info.prefix), info.key)
    keep = jnp.arange(x.shape[1])[None, :] < length[:, None]
    packed = jnp.where(keep[:, :, None], packed, jnp.zeros_like(packed))
    return packed, layout, order
