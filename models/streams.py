"""Streams of a layer: its input projected, convolved, activated and split in heads."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .interface import Layout
from .ops.linear_map import linear_map
from .projection import RMSNorm, ShortConvolution, projection, split_heads

Tails = tuple[Float[Array, "b _ _"], ...]


class StreamTails(NamedTuple):
    """Last inputs of the short convolutions; streams without one hold nothing."""

    query: Float[Array, "b _ _"]
    key: Float[Array, "b _ _"]
    value: Float[Array, "b _ _"]


class Stream(nnx.Module):
    """One stream of a layer, norm(silu(convolution(W x + b))), split into heads.

    Every part is optional. The parameters are `kernel`, `bias`, `convolution/kernel`,
    `convolution/bias` and `norm/scale`.
    """

    def __init__(
        self,
        width: int | None,
        size: int,
        num_heads: int,
        rngs: nnx.Rngs,
        *,
        bias: bool = False,
        activation: bool = False,
        per_memory: bool = False,
    ):
        """Create the projection.

        `add_convolution` creates the convolution. Set `norm` to normalise every head at
        the end.

        Args:
            width: size of the layer's input; None: the stream has no projection and
                uses that of the previous stream.
            size: size of all heads together.
            num_heads: number of heads.
            rngs: random streams for the projection.
            bias: add a bias to the projection.
            activation: apply SiLU after the convolution.
            per_memory: give each memory of a mixture a separate projection.
        """
        self.kernel, self.bias = nnx.data(None), nnx.data(None)
        if width is not None:
            made = projection(width, size, rngs, bias=bias, per_memory=per_memory)
            self.kernel, self.bias = made.kernel, made.bias
        # `nnx.data`: Flax decides here whether an attribute can hold parameters.
        self.convolution: ShortConvolution | None = nnx.data(None)
        self.norm: RMSNorm | None = nnx.data(None)
        self.size = size
        self.num_heads = num_heads
        self.activation = activation

    def add_convolution(self, taps: int, rngs: nnx.Rngs, *, bias: bool = False) -> None:
        """Create a short convolution of `taps` taps."""
        self.convolution = ShortConvolution(self.size, taps, rngs, bias=bias)

    def init_tail(self, batch_size: int) -> Float[Array, "b _ e"]:
        """Return the convolution's inputs before the first token."""
        if self.convolution is None:
            return jnp.zeros((batch_size, 0, self.size), jnp.float32)
        return self.convolution.init_tail(batch_size)

    def project(self, x: Float[Array, "*b d"]) -> Float[Array, "*b e"]:
        """Return W x + b, in the type of `x`."""
        assert self.kernel is not None
        y = linear_map(x, self.kernel[...].astype(x.dtype))
        if self.bias is None:
            return y
        bias = self.bias[...].astype(x.dtype)
        return y + bias.reshape((1,) * (y.ndim - 1) + (-1,))

    def finish(
        self,
        projected: Float[Array, "b t e"],
        tail: Float[Array, "b _ e"],
        layout: Layout,
    ) -> tuple[Float[Array, "b t h k"], Float[Array, "b _ e"]]:
        """Return the heads of projected tokens, and the convolution's new tail."""
        y = projected
        if self.convolution is not None:
            y, tail = self.convolution(y, tail, layout)
        if self.activation:
            y = jax.nn.silu(y)
        y = split_heads(y, self.num_heads)
        return (y if self.norm is None else self.norm(y)), tail

    def __call__(
        self,
        x: Float[Array, "b t d"],
        tail: Float[Array, "b _ e"],
        layout: Layout,
    ) -> tuple[Float[Array, "b t h k"], Float[Array, "b _ e"]]:
        """Return the heads of the layer's input, and the convolution's new tail."""
        return self.finish(self.project(x), tail, layout)

    def heads(self, x: Float[Array, "b t d"]) -> Float[Array, "b t h k"]:
        """Return the heads of a layer's input at the start of a document."""
        return self(x, self.init_tail(x.shape[0]), Layout())[0]


def query_key_value(
    width: int,
    sizes: tuple[int, int, int],
    num_heads: tuple[int, int, int],
    convolution_size: int,
    rngs: nnx.Rngs,
    *,
    activation: bool = True,
    bias: bool = False,
    convolution_bias: bool = False,
) -> list[Stream]:
    """Return the streams query, key and value; key and value are per memory.

    Args:
        width: size of the layer's input.
        sizes: size of each stream, all heads together.
        num_heads: number of heads of each stream.
        convolution_size: taps of the short convolutions; 0: none.
        rngs: random streams for the projections, then the convolutions.
        activation: apply SiLU after the convolution.
        bias: add biases to the projections.
        convolution_bias: add biases to the convolutions.
    """
    streams = [
        Stream(
            width,
            size,
            heads,
            rngs,
            bias=bias,
            activation=activation,
            per_memory=per_memory,
        )
        for size, heads, per_memory in zip(
            sizes, num_heads, (False, True, True), strict=True
        )
    ]
    if convolution_size:
        for stream in streams:
            stream.add_convolution(convolution_size, rngs, bias=convolution_bias)
    return streams


def streams_of(layer: Any) -> tuple[Stream, Stream, Stream]:
    """Return a layer's streams query, key and value."""
    return layer.query, layer.key, layer.value


def init_tails(streams: Sequence[Stream], batch_size: int) -> Tails:
    """Return the tails of query, key and value before the first token.

    A layer without a convolution has no tails, `()`.
    """
    if all(stream.convolution is None for stream in streams):
        return ()
    return StreamTails(*(stream.init_tail(batch_size) for stream in streams))


def run_streams(
    streams: Sequence[Stream],
    x: Float[Array, "b t d"],
    tails: Tails,
    layout: Layout,
) -> tuple[tuple[Array, Array, Array], Tails]:
    """Return queries, keys and values `b t h k` of the tokens, and the new tails."""
    before = tails or [stream.init_tail(x.shape[0]) for stream in streams]
    made, after, projected = [], [], x
    for stream, tail in zip(streams, before, strict=True):
        if stream.kernel is not None:
            projected = stream.project(x)
        heads, tail = stream.finish(projected, tail, layout)
        made.append(heads)
        after.append(tail)
    q, k, v = made
    return (q, k, v), StreamTails(*after) if tails else ()


class Encoder(nnx.Module):
    """Separate streams for keys and values of a prefix (arXiv:2407.05483).

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
        """Create the streams `key` and `value`; see `query_key_value`."""
        self.key, self.value = (
            Stream(width, size, heads, rngs, activation=activation)
            for size, heads in zip(sizes, num_heads, strict=True)
        )
        if convolution_size:
            self.key.add_convolution(convolution_size, rngs)
            self.value.add_convolution(convolution_size, rngs)

    def __call__(
        self, x: Float[Array, "b t d"], layout: Layout
    ) -> tuple[Float[Array, "b t g k"], Float[Array, "b t h v"]]:
        """Return keys and values; they are valid only at tokens of a prefix."""
        key, value = (
            stream(x, stream.init_tail(x.shape[0]), layout)[0]
            for stream in (self.key, self.value)
        )
        return key, value
