"""A data-dependent decay with one value per head."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .decay_init import init_log_a, init_time_bias
from .ops.linear_map import linear_map
from .projection import projection


class HeadDecay(nnx.Module):
    """Log decays -exp(log_a) softplus(W x + time_bias) of each head.

    The parameters are `kernel`, `log_a` and `time_bias`.
    """

    def __init__(self, width: int, num_heads: int, rngs: nnx.Rngs, *, fastest: float):
        """Draw initial rates exp(log_a) uniformly from 0 to `fastest`."""
        self.kernel = projection(width, num_heads, rngs, per_memory=True).kernel
        log_a = init_log_a(rngs, num_heads, minimum=0.0, maximum=fastest)
        self.log_a = nnx.Param(log_a)
        self.time_bias = nnx.Param(init_time_bias(rngs, num_heads))

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t h"]:
        time = linear_map(x, self.kernel[...].astype(x.dtype)).astype(jnp.float32)
        time = jax.nn.softplus(time + self.time_bias[...][None, None, :])
        return -jnp.exp(self.log_a[...])[None, None, :] * time
