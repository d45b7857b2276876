"""The pieces that every layer is built from: projections, norms, short convolutions."""

from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from .interface import Layout
from .ops.linear_map import linear_map
from .ops.normalisation import rms_norm
from .ops.short_convolution import short_convolution


def follow_input(arrays: Any, /, *, dtype: Any = None, inexact: bool = True) -> Any:
    """Cast parameters to the type of the activations, which come first."""
    del dtype, inexact
    return tuple(None if a is None else a.astype(arrays[0].dtype) for a in arrays)


def _product(
    x: Float[Array, "*b d"], kernel: Float[Array, "d e"], axes: Any, **options: Any
) -> Float[Array, "*b e"]:
    """What `nnx.Linear` asks for: the last axis times the first."""
    del axes, options
    return linear_map(x, kernel)


class PerMemory(nnx.Param):
    """A parameter that each memory of a mixture has; others are shared."""


def projection(
    size_in: int,
    size_out: int,
    rngs: nnx.Rngs,
    *,
    bias: bool = False,
    gain: float = 1.0,
    per_memory: bool = False,
) -> nnx.Linear:
    """A linear map in the type of its input; float32 parameters.

    Args:
        gain: the initial standard deviation is gain / sqrt(size_in).
        per_memory: each memory of a mixture has such a map.
    """
    linear = nnx.Linear(
        size_in,
        size_out,
        use_bias=bias,
        kernel_init=nnx.initializers.variance_scaling(gain**2, "fan_in", "normal"),
        promote_dtype=follow_input,
        dot_general=_product,
        rngs=rngs,
    )
    if per_memory:
        linear.kernel = PerMemory(linear.kernel.get_value())
        linear.bias = (
            None if linear.bias is None else PerMemory(linear.bias.get_value())
        )
    return linear


def output_gain(depth: int) -> float:
    """Gain of maps into the residual stream, so that its variance does not grow."""
    return (2 * depth) ** -0.5


class RMSNorm(nnx.Module):
    """Root-mean-square norm over the last axis with a learned scale, in float32."""

    def __init__(self, size: int, epsilon: float = 1e-5, *, num_groups: int = 1):
        """The norm of `size` channels, taken in each of `num_groups` equal parts."""
        self.scale = nnx.Param(jnp.ones((size,), jnp.float32))
        self.epsilon = epsilon
        self.num_groups = num_groups

    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        if self.num_groups == 1:
            return rms_norm(x, self.scale[...], epsilon=self.epsilon)
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        size = x.shape[-1] // self.num_groups
        parts = wide.reshape(*x.shape[:-1], self.num_groups, size)
        normed = rms_norm(parts, epsilon=self.epsilon).reshape(x.shape)
        return (normed * jnp.broadcast_to(self.scale[...], x.shape)).astype(x.dtype)


class ShortConvolution(nnx.Module):
    """Depthwise causal convolution over the last few tokens; its tail is the state."""

    def __init__(self, size: int, taps: int, rngs: nnx.Rngs, *, bias: bool = False):
        bound = taps**-0.5

        def uniform(shape: tuple[int, ...]) -> Array:
            return jax.random.uniform(
                rngs.params(), shape, jnp.float32, minval=-bound, maxval=bound
            )

        self.kernel = nnx.Param(uniform((taps, size)))
        self.bias = nnx.Param(uniform((size,))) if bias else None

    def init_tail(self, batch_size: int) -> Float[Array, "b _ d"]:
        """The inputs before the first token: zeros, in float32."""
        taps, size = self.kernel[...].shape
        return jnp.zeros((batch_size, taps - 1, size), jnp.float32)

    def __call__(
        self,
        x: Float[Array, "b t d"],
        tail: Float[Array, "b _ d"],
        layout: Layout,
        *,
        channels: slice = slice(None),
    ) -> tuple[Float[Array, "b t d"], Float[Array, "b _ d"]]:
        """The convolved tokens and the new tail.

        Args:
            channels: those of the kernel that `x` has.
        """
        bias = None if self.bias is None else self.bias[...][channels].astype(x.dtype)
        y, after = short_convolution(
            x,
            self.kernel[...][:, channels].astype(x.dtype),
            tail.astype(x.dtype),
            reset=layout.reset,
            length=layout.length,
            bias=bias,
        )
        return y, after.astype(tail.dtype)


def split_heads(x: Float[Array, "b t d"], num_heads: int) -> Float[Array, "b t h k"]:
    return rearrange(x, "b t (h k) -> b t h k", h=num_heads)


def merge_heads(x: Float[Array, "b t h v"]) -> Float[Array, "b t d"]:
    return rearrange(x, "b t h v -> b t (h v)")
