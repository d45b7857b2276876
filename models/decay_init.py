"""Initial values of data-dependent decays, as in Mamba-2 and its successors."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


def init_log_a(
    rngs: nnx.Rngs, num_heads: int, *, minimum: float, maximum: float = 16.0
) -> Float[Array, "h"]:
    """Return log A with A drawn uniformly between `minimum` and `maximum`."""
    a = jax.random.uniform(
        rngs.params(), (num_heads,), jnp.float32, minval=minimum, maxval=maximum
    )
    return jnp.log(jnp.maximum(a, 1e-4))


def init_time_bias(
    rngs: nnx.Rngs, num_heads: int, *, shortest: float = 1e-3, longest: float = 1e-1
) -> Float[Array, "h"]:
    """Return a bias whose softplus is log-uniform between `shortest` and `longest`."""
    span = math.log(longest) - math.log(shortest)
    uniform = jax.random.uniform(rngs.params(), (num_heads,), jnp.float32)
    time = jnp.maximum(jnp.exp(uniform * span + math.log(shortest)), 1e-4)
    return time + jnp.log(-jnp.expm1(-time))
