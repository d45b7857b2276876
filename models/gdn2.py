"""Gated DeltaNet-2: a delta rule with separate gates for erasing and writing."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .kda import KDA, KDAConfig
from .projection import projection, split_heads


@dataclass(frozen=True, kw_only=True)
class GDN2Config(KDAConfig):
    """Gated DeltaNet-2 (2026, arXiv:2605.22791).

    Per head, with keys and queries of length 1, an erase gate b_t = sigmoid(W_b x_t)
    for each channel of the key and a write gate w_t = sigmoid(W_w x_t) for each channel
    of the value:

        alpha_t = exp(-exp(log_a) softplus(W_up W_down x_t + time_bias))
        S_t = (I - k_t (b_t * k_t)^T) diag(alpha_t) S_(t-1) + k_t (w_t * v_t)^T
        o_t = S_t^T q_t / sqrt(head size)
        y_t = W_o (norm(o_t) * sigmoid(G_up G_down x_t + b))

    With b_t = w_t = beta_t, a single number, it is kda. `negative_eigenvalues` doubles
    only the erase gates.

    Differs from it in: the number of value heads equals the number of key heads.
    """

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "GDN2":
        del layer_index
        return GDN2(self, width, rngs, depth)


class GDN2(KDA):
    """See `GDN2Config`."""

    def __init__(self, config: GDN2Config, width: int, rngs: nnx.Rngs, depth: int):
        super().__init__(config, width, rngs, depth)
        keys, values = (
            config.num_heads * size for size in (self.head_size, self.value_size)
        )
        self.erase = projection(width, keys, rngs, per_memory=True)
        self.write_strength = projection(width, values, rngs, per_memory=True)

    def strengths(
        self, x: Float[Array, "b t d"]
    ) -> tuple[Float[Array, "b t h #k"], Float[Array, "b t h #v"]]:
        erase, write = (
            split_heads(
                jax.nn.sigmoid(gate(x).astype(jnp.float32)), self.config.num_heads
            )
            for gate in (self.erase, self.write_strength)
        )
        return (2 * erase if self.config.negative_eigenvalues else erase), write
