"""Gates of the delta rule with preconditioned keys."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .head_decay import HeadDecay
from .ops.erase_write import EraseWriteTokens
from .ops.preconditioned_delta import PreconditionedMemory, PreconditionedTokens
from .projection import projection


class Preconditioner(nnx.Module):
    """The strength, the decay and the centre of the keys' covariance, per head.

    The parameters are `write_strength/kernel`, `decay/...` and `centre`.
    """

    def __init__(self, width: int, num_heads: int, rngs: nnx.Rngs, *, fastest: float):
        """Draw initial rates of the decay uniformly from 0 to `fastest`."""
        self.write_strength = projection(width, num_heads, rngs, per_memory=True)
        self.decay = HeadDecay(width, num_heads, rngs, fastest=fastest)
        self.centre = nnx.Param(jnp.full((num_heads,), -0.2, jnp.float32))

    def init_memory(self, memory: Float[Array, "b h k v"]) -> PreconditionedMemory:
        """Return the memory of a new document with its covariance."""
        return PreconditionedMemory(memory, jnp.zeros(memory.shape[:3], memory.dtype))

    def __call__(
        self, tokens: EraseWriteTokens, x: Float[Array, "b t d"]
    ) -> PreconditionedTokens:
        """Return the tokens with the gates of the covariance."""
        strength = jax.nn.sigmoid(self.write_strength(x).astype(jnp.float32))
        centre = self.centre[...][None, None, :]
        return PreconditionedTokens(
            query=tokens.query,
            key=tokens.key,
            value=tokens.value,
            erase=tokens.erase,
            covariance_strength=strength,
            covariance_log_decay=self.decay(x),
            centre=jnp.broadcast_to(centre, strength.shape),
            log_decay=tokens.log_decay,
        )
