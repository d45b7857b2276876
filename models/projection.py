"""Building blocks of layers: projections, norms and short convolutions."""

from collections.abc import Sequence
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
    """Cast parameters to the type of the activations, the first argument."""
    del dtype, inexact
    return tuple(None if a is None else a.astype(arrays[0].dtype) for a in arrays)


def _product(
    x: Float[Array, "*b d"], kernel: Float[Array, "d e"], axes: Any, **options: Any
) -> Float[Array, "*b e"]:
    """Multiply the last axis by the first, with the arguments of `nnx.Linear`."""
    del axes, options
    return linear_map(x, kernel)


class PerMemory(nnx.Param):
    """A parameter that each memory of a mixture holds separately; others are shared."""


def projection(
    size_in: int,
    size_out: int,
    rngs: nnx.Rngs,
    *,
    bias: bool = False,
    gain: float = 1.0,
    per_memory: bool = False,
) -> nnx.Linear:
    """Return a linear map in the type of its input, with float32 parameters.

    Args:
        size_in: channels of the input.
        size_out: channels of the output.
        rngs: random streams for the kernel.
        bias: add a bias, which begins at 0.
        gain: factor of the initial standard deviation, gain / sqrt(size_in).
        per_memory: give each memory of a mixture a separate map.
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
    """Return the gain for maps into the residual stream; it bounds the variance."""
    return (2 * depth) ** -0.5


def learned_tokens(number: int, width: int, rngs: nnx.Rngs) -> nnx.Param | None:
    """Return learned tokens, drawn from the standard normal; None for no tokens."""
    if not number:
        return None
    return nnx.Param(jax.random.normal(rngs.params(), (number, width), jnp.float32))


class RMSNorm(nnx.Module):
    """Root-mean-square norm over the last axis with a learned scale, in float32."""

    def __init__(
        self,
        size: int,
        epsilon: float = 1e-5,
        *,
        num_groups: int = 1,
        zero_centred: bool = False,
    ):
        """Create the scale, which begins at 1.

        Args:
            size: number of channels.
            epsilon: number added to the mean square.
            num_groups: number of equal groups of channels, each normalised separately.
            zero_centred: multiply by 1 + `scale`, with a scale that begins at 0.
        """
        self.scale = nnx.Param(jnp.full((size,), 1.0 - zero_centred, jnp.float32))
        self.epsilon = epsilon
        self.num_groups = num_groups
        self.zero_centred = zero_centred

    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        factor = self.scale[...] + 1 if self.zero_centred else self.scale[...]
        if self.num_groups == 1:
            return rms_norm(x, factor, epsilon=self.epsilon)
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        size = x.shape[-1] // self.num_groups
        parts = wide.reshape(*x.shape[:-1], self.num_groups, size)
        normed = rms_norm(parts, epsilon=self.epsilon).reshape(x.shape)
        return (normed * jnp.broadcast_to(factor, x.shape)).astype(x.dtype)


class GroupNorm(nnx.GroupNorm):
    """Group norm of each token: mean 0 and variance 1 in every group of channels."""

    def __call__(self, x: Float[Array, "*b d"], **options: Any) -> Float[Array, "*b d"]:
        # Flax takes the mean over all axes but the first.
        rows = x.reshape(-1, x.shape[-1])
        return super().__call__(rows, **options).reshape(x.shape)


class ShortConvolution(nnx.Module):
    """Depthwise causal convolution over the last few tokens; its tail is the state."""

    def __init__(self, size: int, taps: int, rngs: nnx.Rngs, *, bias: bool = False):
        """Draw the kernel, and then the bias, as PyTorch does.

        Args:
            size: number of channels.
            taps: number of tokens that an output depends on.
            rngs: random streams for the parameters.
            bias: add a bias.
        """
        bound = taps**-0.5

        def uniform(shape: tuple[int, ...]) -> Array:
            return jax.random.uniform(
                rngs.params(), shape, jnp.float32, minval=-bound, maxval=bound
            )

        self.kernel = nnx.Param(uniform((taps, size)))
        self.bias = nnx.Param(uniform((size,))) if bias else None

    def split(self, sizes: Sequence[int]) -> list["ShortConvolution"]:
        """Split this convolution into convolutions with the given channel counts."""
        graphdef, arrays = nnx.split(self)
        parts, first = [], 0
        for size in sizes:
            cut = jax.tree.map(lambda a, i=first, n=size: a[..., i : i + n], arrays)
            parts.append(nnx.merge(graphdef, cut))
            first += size
        return parts

    def init_tail(self, batch_size: int) -> Float[Array, "b _ d"]:
        """Return the inputs before the first token: zeros, in float32."""
        taps, size = self.kernel[...].shape
        return jnp.zeros((batch_size, taps - 1, size), jnp.float32)

    def __call__(
        self,
        x: Float[Array, "b t d"],
        tail: Float[Array, "b _ d"],
        layout: Layout,
    ) -> tuple[Float[Array, "b t d"], Float[Array, "b _ d"]]:
        """Return the convolved tokens and the new tail."""
        bias = None if self.bias is None else self.bias[...].astype(x.dtype)
        y, after = short_convolution(
            x,
            self.kernel[...].astype(x.dtype),
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
