"""Decays per head, and gates and decays per channel from low-rank maps."""

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from .decay_init import init_log_a, init_time_bias
from .projection import projection


class LowRank(nnx.Module):
    """The linear map W_up W_down x, with an optional bias."""

    def __init__(
        self,
        size_in: int,
        rank: int,
        size_out: int,
        rngs: nnx.Rngs,
        *,
        bias: bool = False,
        per_memory: bool = False,
    ):
        self.down = projection(size_in, rank, rngs, per_memory=per_memory)
        self.up = projection(rank, size_out, rngs, bias=bias, per_memory=per_memory)

    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b e"]:
        return self.up(self.down(x))


class ScalarDecay(nnx.Module):
    """Log decays -exp(log_a) softplus(W x + time_bias), one per head."""

    def __init__(self, width: int, num_heads: int, rngs: nnx.Rngs, *, fastest: float):
        """Draw initial rates exp(log_a) uniformly from 0 to `fastest`."""
        self.time = projection(width, num_heads, rngs, per_memory=True)
        log_a = init_log_a(rngs, num_heads, minimum=0.0, maximum=fastest)
        self.log_a = nnx.Param(log_a)
        self.time_bias = nnx.Param(init_time_bias(rngs, num_heads))

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t h"]:
        time = self.time(x).astype(jnp.float32) + self.time_bias[...][None, None, :]
        return -jnp.exp(self.log_a[...])[None, None, :] * jax.nn.softplus(time)


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
