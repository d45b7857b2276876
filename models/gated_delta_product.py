"""Gated DeltaProduct: several delta-rule writes per token."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from .associative_memory import AssociativeState, MatrixMemory
from .head_decay import HeadDecay
from .interface import Layout
from .layer_checks import (
    check_chunk_size,
    check_convolution,
    check_positive,
    resolve_head_size,
)
from .layer_config import Family, RegisteredConfig
from .memory_inputs import MemoryInputs
from .ops.delta_product import DELTA_PRODUCT, DeltaProductTokens
from .ops.normalisation import l2_normalise
from .projection import RMSNorm, projection
from .read_out import ReadOut
from .regression import Regression
from .streams import Tails, query_key_value


@dataclass(frozen=True, kw_only=True)
class GatedDeltaProductConfig(RegisteredConfig):
    """Gated DeltaProduct (Siems et al. 2025, arXiv:2502.10297).

    Per head, with n = num_householder writes per token, keys and queries of length 1
    and beta_tj = 2 sigmoid(w_bj . x_t), for j = 1 to n:

        alpha_t = exp(-exp(log_a) softplus(w_a . x_t + time_bias))
        S = alpha_t S_(t-1)
        S <- S + beta_tj k_tj (v_tj - S^T k_tj)^T,  j = 1 to n
        S_t = S,  o_t = S_t^T q_t / sqrt(head size)
        y_t = W_o (norm(o_t) * silu(W_g x_t))

    A token multiplies the memory by n generalised Householder matrices. With n = 1 it
    is gated_delta_net; without the forget gate too, it is delta_net.

    Differs from it in: the number of value heads equals the number of key heads; sizes
    are free.
    """

    family: ClassVar[Family] = "delta rule"
    regression: ClassVar[Regression | None] = Regression(
        "scalar_decay", "linear", "several_steps"
    )

    num_heads: int = 4
    head_size: int | None = None
    """Size of each head's queries and keys; None: width / num_heads."""
    value_ratio: int = 2
    """Ratio of value size to key size."""
    num_householder: int = 2
    """Writes per token, each with a key, a value and a strength."""
    convolution_size: int = 4
    """Taps of the short convolutions on queries, keys and values; 0: none."""
    forget_gate: bool = True
    """Decay the memory before a token's writes; False: alpha = 1."""
    output_gate: bool = True
    """Multiply the read by silu(W_g x)."""
    fastest_decay: float = 16.0
    """Initial exp(log_a) is uniform between 0 and this; published: 16. With one or two
    heads a draw near 16 forgets within a few tokens; choose 1 then."""
    negative_eigenvalues: bool = True
    """Use write strengths in (0, 2); False: in (0, 1) (arXiv:2411.12537)."""
    norm_epsilon: float = 1e-5
    """Epsilon of the read's norm: added to the mean square."""
    chunk_size: int | None = None
    """Tokens per chunk; affects speed only. None: chosen for the backend."""

    def __post_init__(self) -> None:
        check_convolution(self.convolution_size)
        check_chunk_size(self.chunk_size)
        for name in ("norm_epsilon", "value_ratio", "num_householder", "fastest_decay"):
            check_positive(name, getattr(self, name))

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "GatedDeltaProduct":
        del layer_index
        return GatedDeltaProduct(self, width, rngs, depth)


class GatedDeltaProduct(MatrixMemory):
    """See `GatedDeltaProductConfig`."""

    rule = DELTA_PRODUCT

    def __init__(
        self, config: GatedDeltaProductConfig, width: int, rngs: nnx.Rngs, depth: int
    ):
        size = resolve_head_size(width, config.num_heads, config.head_size)
        heads, writes = config.num_heads, config.num_heads * config.num_householder
        self.config = config
        self.head_size = size
        self.value_size = size * config.value_ratio
        values = heads * self.value_size
        self.query, self.key, self.value = query_key_value(
            width,
            (heads * size, writes * size, writes * self.value_size),
            (heads, writes, writes),
            config.convolution_size,
            rngs,
        )
        self.write_strength = projection(width, writes, rngs, per_memory=True)
        self.decay: HeadDecay | None = nnx.data(None)
        if config.forget_gate:
            self.decay = HeadDecay(width, heads, rngs, fastest=config.fastest_decay)
        self.read_out = ReadOut(
            values,
            width,
            rngs,
            depth=depth,
            norm=RMSNorm(self.value_size, config.norm_epsilon),
            gate=projection(width, values, rngs) if config.output_gate else None,
        )

    def init_memory(self, batch_size: int) -> Float[Array, "b h k v"]:
        shape = (batch_size, self.config.num_heads, self.head_size, self.value_size)
        return jnp.zeros(shape, jnp.float32)

    def inputs(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[MemoryInputs, Tails]:
        (q, k, v), tails = self.streams(x, state.tails, layout)
        strength = jax.nn.sigmoid(self.write_strength(x).astype(jnp.float32))
        if self.config.negative_eigenvalues:
            strength = 2 * strength
        tokens = DeltaProductTokens(
            query=l2_normalise(q) * self.head_size**-0.5,
            key=self._by_write(l2_normalise(k)),
            value=self._by_write(v),
            write_strength=self._by_write(strength),
            log_decay=None if self.decay is None else self.decay(x),
        )
        return MemoryInputs(tokens), tails

    def _by_write(self, x: Array) -> Array:
        """Split the axis after the time into writes and heads."""
        writes = self.config.num_householder
        return rearrange(x, "b t (r h) ... -> b t r h ...", r=writes)
