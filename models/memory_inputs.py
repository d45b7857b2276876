"""What a matrix memory takes from the tokens."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class MemoryInputs(NamedTuple):
    """Queries, keys, values and gates; gates in float32, queries scaled.

    Attributes:
        write_strength: share of the error that is written; `None`: not used.
        log_decay: logarithm of what the memory keeps before the write; `None`: all.
        skip: added to what is read; `None`: nothing.
    """

    query: Float[Array, "b t h k"]
    key: Float[Array, "b t h k"]
    value: Float[Array, "b t h v"]
    write_strength: Float[Array, "b t h"] | None = None
    log_decay: Float[Array, "b t h"] | None = None
    skip: Float[Array, "b t h v"] | None = None

    def only(self, valid: Bool[Array, "b t"] | None) -> "MemoryInputs":
        """Turn the other tokens into identity tokens, which change no memory."""
        if valid is None:
            return self

        def keep(a: Array) -> Array:
            mask = valid.reshape(valid.shape + (1,) * (a.ndim - 2))
            return jnp.where(mask, a, jnp.zeros_like(a))

        return jax.tree.map(keep, self)
