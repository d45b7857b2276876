"""Associative memory of one block, written once per segment."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .ops.delta_rule import DELTA_RULE, DeltaTokens
from .ops.feature_maps import dpfp, dpfp_size
from .ops.normalisation import l2_normalise
from .projection import projection


class SegmentAssociation(nnx.Module):
    """A delta-rule memory over the features phi of ARMT, with keys of length 1.

    For a token h and the memory A, `read` is A^T phi(W_q h). `written` writes memory
    tokens one by one, v = W_v m at the key phi(W_k m) with the strength
    sigmoid(w_b . m). W_v begins at zero, so that a new layer reads nothing.
    """

    def __init__(self, width: int, key_size: int, rngs: nnx.Rngs):
        self.features = dpfp_size(key_size)
        self.query = projection(width, key_size, rngs)
        self.key = projection(width, key_size, rngs)
        self.value = projection(width, width, rngs)
        self.value.kernel[...] = jnp.zeros_like(self.value.kernel[...])
        self.write_strength = projection(width, 1, rngs, bias=True)
        self.width = width

    def new_memory(self, batch_size: int) -> Float[Array, "b h k v"]:
        """Return an empty memory with one head, in float32."""
        return jnp.zeros((batch_size, 1, self.features, self.width), jnp.float32)

    def read(
        self, memory: Float[Array, "b h k v"], h: Float[Array, "b t d"]
    ) -> Float[Array, "b t d"]:
        """Return what the memory holds for each token."""
        q = l2_normalise(dpfp(self.query(h).astype(jnp.float32)))
        return jnp.einsum("btk,bkv->btv", q, memory[:, 0]).astype(h.dtype)

    def written(
        self, memory: Float[Array, "b h k v"], tokens: Float[Array, "b n d"]
    ) -> Float[Array, "b h k v"]:
        """Return the memory after it has stored the tokens."""
        k = l2_normalise(dpfp(self.key(tokens).astype(jnp.float32)))[:, :, None]
        v = self.value(tokens).astype(jnp.float32)[:, :, None]
        strength = jax.nn.sigmoid(self.write_strength(tokens).astype(jnp.float32))
        return DELTA_RULE.write(DeltaTokens(k, k, v, strength), memory)
