"""Linear attention with scalar decay where only the last memory is asked for."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .chunk_decay import scale
from .matrix_product import matrix_product


def scalar_decay_write(
    k: Float[Array, "b t h k"],
    v: Float[Array, "b t h v"],
    log_decay: Float[Array, "b t h"] | None,
    memory: Float[Array, "b h k v"],
) -> Float[Array, "b h k v"]:
    """The memory after a sequence that nobody reads, by one matrix product.

    Args:
        k: keys.
        v: values.
        log_decay: as in `scalar_decay_step`.
        memory: before the first token.
    """
    dtype = memory.dtype
    operand = jnp.result_type(k, v)
    if log_decay is not None:
        # Sums from the end: what comes last decays least and must be exact.
        later = jnp.pad(log_decay.astype(dtype)[:, 1:], ((0, 0), (0, 1), (0, 0)))
        remaining = jax.lax.cumsum(later, axis=1, reverse=True)
        v = scale(v.astype(dtype), jnp.exp(remaining))
        kept = jnp.exp(jnp.sum(log_decay.astype(dtype), axis=1))
        memory = memory * kept[..., None, None]
    written = matrix_product("bthk,bthv->bhkv", k, v, operand=operand, accumulate=dtype)
    return memory + written
