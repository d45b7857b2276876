"""Gates with one value per channel, from low-rank maps."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from .decay_init import init_log_a, init_time_bias
from .projection import projection


class LowRank(nnx.Module):
    """The map W_up act(W_down x) + b; activation and bias are optional."""

    def __init__(
        self,
        size_in: int,
        rank: int,
        size_out: int,
        rngs: nnx.Rngs,
        *,
        bias: bool = False,
        per_memory: bool = False,
        activation: Callable[[Array], Array] | None = None,
        gain: float = 1.0,
    ):
        """Create the two projections.

        Args:
            size_in: channels of the input.
            rank: channels between the two projections.
            size_out: channels of the output.
            rngs: random streams for the projections.
            bias: add a bias to the output.
            per_memory: give each memory of a mixture a separate map.
            activation: function of the channels between; None: the map is linear.
            gain: factor of the initial standard deviation of W_up.
        """
        self.down = projection(size_in, rank, rngs, per_memory=per_memory)
        self.up = projection(
            rank, size_out, rngs, bias=bias, per_memory=per_memory, gain=gain
        )
        self.activation = activation

    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b e"]:
        low = self.down(x)
        return self.up(low if self.activation is None else self.activation(low))


class ChannelDecay(nnx.Module):
    """Log decays -exp(log_a) softplus(W_up W_down x + time_bias) of each channel.

    log_a has one value per head and time_bias one per channel.
    """

    def __init__(
        self,
        width: int,
        rank: int,
        num_heads: int,
        head_size: int,
        rngs: nnx.Rngs,
        *,
        fastest: float,
    ):
        """Draw initial rates exp(log_a) uniformly from `fastest` / 16 to `fastest`."""
        channels = num_heads * head_size
        self.time = LowRank(width, rank, channels, rngs, per_memory=True)
        log_a = init_log_a(rngs, num_heads, minimum=fastest / 16, maximum=fastest)
        self.log_a = nnx.Param(log_a)
        self.time_bias = nnx.Param(init_time_bias(rngs, channels))
        self.num_heads = num_heads

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t h k"]:
        time = self.time(x).astype(jnp.float32) + self.time_bias[...][None, None, :]
        time = rearrange(
            jax.nn.softplus(time), "b t (h k) -> b t h k", h=self.num_heads
        )
        return -jnp.exp(self.log_a[...])[None, None, :, None] * time
