"""A gated short convolution: local mixing with a state of a few tokens."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from .interface import Layout, MemoryLayer
from .layer_checks import check_convolution, check_positive
from .layer_config import Family, RegisteredConfig
from .projection import projection
from .read_out import ReadOut
from .streams import Stream


@dataclass(frozen=True, kw_only=True)
class GatedShortConvolutionConfig(RegisteredConfig):
    """Gated short convolution, BaseConv of Based (Arora et al. 2024, arXiv:2402.18668).

    W_u and W_g map to `expansion` times the width, and conv is a depthwise causal
    convolution of `convolution_size` taps:

        y_t = W_o (silu(conv(W_u x)_t) * (W_g x_t))

    Differs from it in: W_u and W_g are two maps; in the paper they are equivalent
    halves of one map of width expand_proj = 2 `expansion`.
    """

    family: ClassVar[Family] = "convolution"

    convolution_size: int = 3
    """Number of taps of the convolution."""
    expansion: int = 2
    """Ratio of each inner map's width to the model's width."""

    def __post_init__(self) -> None:
        check_convolution(self.convolution_size)
        check_positive("convolution_size", self.convolution_size)
        check_positive("expansion", self.expansion)

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "GatedShortConvolution":
        del layer_index
        return GatedShortConvolution(self, width, rngs, depth)


class GatedShortConvolutionState(NamedTuple):
    """State of `GatedShortConvolution`.

    Attributes:
        tail: last inputs of the convolution, float32.
        position: number of tokens of the document so far.
    """

    tail: Float[Array, "b _ d"]
    position: Int[Array, "b"]


class GatedShortConvolution(MemoryLayer[GatedShortConvolutionState]):
    """See `GatedShortConvolutionConfig`."""

    def __init__(
        self,
        config: GatedShortConvolutionConfig,
        width: int,
        rngs: nnx.Rngs,
        depth: int,
    ):
        inner = config.expansion * width
        self.config = config
        self.value = Stream(width, inner, 1, rngs, bias=True, activation=True)
        gate = projection(width, inner, rngs, bias=True)
        self.value.add_convolution(config.convolution_size, rngs, bias=True)
        self.read_out = ReadOut(
            inner,
            width,
            rngs,
            depth=depth,
            gate=gate,
            activation="identity",
            bias=True,
        )

    def init_state(
        self, batch_size: int, max_length: int
    ) -> GatedShortConvolutionState:
        del max_length
        return GatedShortConvolutionState(
            self.value.init_tail(batch_size),
            jnp.zeros((batch_size,), jnp.int32),
        )

    def sequence(
        self,
        x: Float[Array, "b t d"],
        state: GatedShortConvolutionState,
        layout: Layout,
    ) -> tuple[Float[Array, "b t d"], GatedShortConvolutionState]:
        value, tail = self.value(x, state.tail, layout)
        _, position = layout.positions(state.position, x.shape[1])
        return self.read_out(value, x), GatedShortConvolutionState(tail, position)

    def token(
        self, x: Float[Array, "b d"], state: GatedShortConvolutionState
    ) -> tuple[Float[Array, "b d"], GatedShortConvolutionState]:
        y, state = self.sequence(x[:, None], state, Layout())
        return y[:, 0], state
