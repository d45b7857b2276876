"""Documents, padding and prefixes of a batch: what a layer is told of its tokens."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from .ops.places import places


class SequenceInfo(NamedTuple):
    """What a layer is told about the tokens of a sequence; `None` where nothing is.

    Attributes:
        reset: a document begins here: memory and position start anew.
        valid: a real token. An invalid one (padding) leaves the state bit for bit and
            puts out zero; a reset on it is not seen.
        prefix: read non-causally: the marked tokens that a document begins with, up to
            the first that is not marked. A prefix lies within one call; what is marked
            elsewhere is read causally.
        key: what is drawn at random in training is drawn by it. Without it nothing is,
            and layers are functions of their inputs alone.
    """

    reset: Bool[Array, "b t"] | None = None
    valid: Bool[Array, "b t"] | None = None
    prefix: Bool[Array, "b t"] | None = None
    key: Key[Array, ""] | None = None


class TokenInfo(NamedTuple):
    """`SequenceInfo` for one token a row."""

    reset: Bool[Array, "b"] | None = None
    valid: Bool[Array, "b"] | None = None
    prefix: Bool[Array, "b"] | None = None


class Layout(NamedTuple):
    """`SequenceInfo` once the real tokens of every row stand first.

    Attributes:
        reset: True where a document begins.
        length: real tokens in the row; the rest is padding at its end. `None`: all.
        prefix: marked as prefix; `prefix_tokens` says which tokens are.
        key: of what is drawn in training; None: nothing is.
    """

    reset: Bool[Array, "b t"] | None = None
    length: Int[Array, "b"] | None = None
    prefix: Bool[Array, "b t"] | None = None
    key: Key[Array, ""] | None = None

    def with_own_key(self, number: int | Int[Array, ""]) -> "Layout":
        """The layout for one of many layers, which draws numbers of its own."""
        if self.key is None:
            return self
        return self._replace(key=jax.random.fold_in(self.key, number))

    def valid(self, time: int) -> Bool[Array, "b t"] | None:
        """Real tokens, as a mask."""
        if self.length is None:
            return None
        return jnp.arange(time)[None, :] < self.length[:, None]

    def positions(
        self, position: Int[Array, "b"], time: int
    ) -> tuple[Int[Array, "b t"], Int[Array, "b"]]:
        """Return the place of every token in its document, and that of the next.

        Args:
            position: place of the first token if it begins no document.
            time: tokens in the call.
        """
        return places(position, time, reset=self.reset, length=self.length)

    def prefix_tokens(
        self, position: Int[Array, "b"], time: int
    ) -> Bool[Array, "b t"] | None:
        """Tokens of the prefixes: what each document begins with, marked without a gap.

        A document that an earlier call began has none.

        Args:
            position: place of the first token, were it not to begin a document.
            time: tokens in the call.
        """
        if self.prefix is None:
            return None
        place, _ = self.positions(position, time)
        index = jnp.arange(time, dtype=jnp.int32)[None, :]
        start = jax.lax.cummax(jnp.where(place == 0, index, -1), axis=1)
        gap = jax.lax.cummax(jnp.where(self.prefix, -1, index), axis=1)
        return jnp.logical_and(start >= 0, gap < start)

    def segments(self, time: int) -> Int[Array, "b t"] | None:
        """Number of the document within the call; 0 continues the carried one."""
        if self.reset is None:
            return None
        return jnp.cumsum(self.reset, axis=1, dtype=jnp.int32)


def pack(
    x: Float[Array, "b t d"], info: SequenceInfo, valid: Bool[Array, "b t"]
) -> tuple[Float[Array, "b t d"], Layout, Int[Array, "b t"]]:
    """Move the real tokens of every row to its front, order kept."""
    order = jnp.argsort(jnp.logical_not(valid), axis=1, stable=True)

    def move(mask: Array | None) -> Array | None:
        if mask is None:
            return None
        return jnp.take_along_axis(jnp.logical_and(mask, valid), order, axis=1)

    packed = jnp.take_along_axis(x, order[:, :, None], axis=1)
    # What padding holds must not matter, not even when it is not finite.
    length = jnp.sum(valid, axis=1, dtype=jnp.int32)
    layout = Layout(move(info.reset), length, move(info.prefix), info.key)
    keep = jnp.arange(x.shape[1])[None, :] < length[:, None]
    packed = jnp.where(keep[:, :, None], packed, jnp.zeros_like(packed))
    return packed, layout, order
