"""A prefix that a memory reads whole before the document's first token."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from .interface import Layout
from .memory_inputs import MemoryInputs
from .projection import ShortConvolution, projection, split_heads


class Encoder(nnx.Module):
    """Keys and values of a prefix, by maps of their own (arXiv:2407.05483).

    A prefix begins its document, so the convolutions need no tail from earlier calls.
    """

    def __init__(
        self,
        width: int,
        sizes: tuple[int, int],
        num_heads: tuple[int, int],
        convolution_size: int,
        rngs: nnx.Rngs,
        *,
        activation: bool,
    ):
        """Sizes and heads of keys and values; size is of all heads together.

        Args:
            convolution_size: taps of the short convolutions; 0 has none.
            activation: SiLU after the convolution.
        """
        self.key = projection(width, sizes[0], rngs)
        self.value = projection(width, sizes[1], rngs)
        self.num_heads = num_heads
        self.activation = activation
        self.convolutions = convolution_size > 0
        if self.convolutions:
            self.key_convolution = ShortConvolution(sizes[0], convolution_size, rngs)
            self.value_convolution = ShortConvolution(sizes[1], convolution_size, rngs)

    def __call__(
        self, x: Float[Array, "b t d"], layout: Layout
    ) -> tuple[Float[Array, "b t g k"], Float[Array, "b t h v"]]:
        """Keys and values; right where a document's prefix stands."""
        key, value = self.key(x), self.value(x)
        if self.convolutions:
            key = _convolve(self.key_convolution, key, layout)
            value = _convolve(self.value_convolution, value, layout)
        if self.activation:
            key, value = jax.nn.silu(key), jax.nn.silu(value)
        keys, values = self.num_heads
        return split_heads(key, keys), split_heads(value, values)


def _convolve(
    convolution: ShortConvolution, x: Float[Array, "b t d"], layout: Layout
) -> Float[Array, "b t d"]:
    return convolution(x, convolution.init_tail(x.shape[0]), layout)[0]


def insert_prefixes(
    written: MemoryInputs,
    inputs: MemoryInputs,
    prefix: Bool[Array, "b t"],
    reset: Bool[Array, "b t"] | None,
) -> tuple[MemoryInputs, Bool[Array, "b s"], Int[Array, "b t"]]:
    """A sequence twice as long, where each document's prefix is written before it.

    Args:
        written: of the prefix; not read elsewhere.
        inputs: of all tokens, with the same fields.
        prefix: tokens of the prefixes.
        reset: a document begins here; None: one document a row.

    Returns:
        The longer sequence; the document starts in it; the place of every token of
        `inputs` in it.
    """
    time = prefix.shape[1]
    reset = jnp.zeros_like(prefix) if reset is None else reset
    real = jnp.ones_like(prefix) if inputs.valid is None else inputs.valid
    document = jnp.cumsum(reset, axis=1, dtype=jnp.int32)
    # What is not of a prefix writes nothing, and stands at the row's end.
    last = document[:, -1:]
    ahead = jnp.where(prefix, document, last)
    key = jnp.where(prefix, 2 * document, 2 * last + 2)
    key = jnp.concatenate([key, 2 * document + 1], axis=1)
    order = jnp.argsort(key, axis=1, stable=True)
    document = jnp.concatenate([ahead, document], axis=1)
    document = jnp.take_along_axis(document, order, axis=1)
    before = jnp.pad(document, ((0, 0), (1, 0)))[:, :-1]

    def merge(first: Array, second: Array) -> Array:
        both = jnp.concatenate([first, second.astype(first.dtype)], axis=1)
        index = order.reshape(order.shape + (1,) * (both.ndim - 2))
        return jnp.take_along_axis(both, index, axis=1)

    unread = written.with_query(jnp.zeros_like(inputs.query))
    longer = jax.tree.map(
        merge,
        unread._replace(skip=None, valid=prefix),
        inputs._replace(skip=None, valid=real),
    )
    place = jnp.argsort(order, axis=1)[:, time:]
    return longer, document != before, place
