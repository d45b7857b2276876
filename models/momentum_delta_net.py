"""Momentum DeltaNet: the delta rule by gradient descent with momentum."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
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
from .ops.momentum_delta import MOMENTUM_DELTA, MomentumDeltaTokens, MomentumMemory
from .ops.normalisation import l2_normalise
from .projection import RMSNorm, projection
from .read_out import ReadOut
from .regression import Regression
from .streams import Tails, query_key_value


@dataclass(frozen=True, kw_only=True)
class MomentumDeltaNetConfig(RegisteredConfig):
    """Momentum DeltaNet (2026, arXiv:2605.05838).

    Per head, with keys and queries of length 1, a step eta_t = sigmoid(w_e . x_t), a
    momentum mu_t = sigmoid(w_m . x_t), a strength beta_t = sigmoid(w_b . x_t), and
    p_t = alpha_t k_t, or p_t = k_t without `decayed_residual`:

        alpha_t = exp(-exp(log_a) softplus(w_a . x_t + time_bias))
        M_t = mu_t M_(t-1) - eta_t k_t (v_t - S_(t-1)^T p_t)^T
        S_t = alpha_t S_(t-1) - beta_t M_t
        o_t = S_t^T q_t / sqrt(head size)
        y_t = W_o (norm(o_t) * silu(W_g x_t))

    It meets titans_lmm where that has a linear memory, windows of one token, no limit
    on gradients and a memory that begins at zero: with p_t = k_t and beta_t = 1, S_t is
    M_t of Titans and -M_t is S_t of Titans, with alpha_t for 1 - alpha_t, mu_t for
    eta_t, and eta_t for theta_t with its loss `half` (2 theta_t with `full`).

    Differs from it in: the gates are plain sigmoids, where the published code couples
    beta_t to alpha_t by an angle; queries have no correction by the key.
    """

    family: ClassVar[Family] = "delta rule"
    regression: ClassVar[Regression | None] = Regression(
        "scalar_decay", "linear", "online_momentum"
    )

    num_heads: int = 4
    head_size: int | None = None
    """Size of each head's queries and keys; None: width / num_heads."""
    value_ratio: int = 2
    """Ratio of value size to key size."""
    convolution_size: int = 4
    """Taps of the short convolutions on queries, keys and values; 0: none."""
    decayed_residual: bool = True
    """Compare the value with the memory after its decay; False: before it."""
    output_gate: bool = True
    """Multiply the read by silu(W_g x)."""
    fastest_decay: float = 16.0
    """Initial exp(log_a) is uniform between 0 and this; published: 16. With one or two
    heads a draw near 16 forgets within a few tokens; choose 1 then."""
    norm_epsilon: float = 1e-5
    """Epsilon of the read's norm: added to the mean square."""
    chunk_size: int | None = None
    """Tokens per chunk; affects speed only. None: chosen for the backend."""

    def __post_init__(self) -> None:
        check_convolution(self.convolution_size)
        check_chunk_size(self.chunk_size)
        for name in ("norm_epsilon", "value_ratio", "fastest_decay"):
            check_positive(name, getattr(self, name))

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "MomentumDeltaNet":
        del layer_index
        return MomentumDeltaNet(self, width, rngs, depth)


class MomentumDeltaNet(MatrixMemory):
    """See `MomentumDeltaNetConfig`."""

    rule = MOMENTUM_DELTA

    def __init__(
        self, config: MomentumDeltaNetConfig, width: int, rngs: nnx.Rngs, depth: int
    ):
        heads = config.num_heads
        size = resolve_head_size(width, heads, config.head_size)
        self.config = config
        self.head_size = size
        self.value_size = size * config.value_ratio
        keys, values = heads * size, heads * self.value_size
        self.query, self.key, self.value = query_key_value(
            width,
            (keys, keys, values),
            (heads, heads, heads),
            config.convolution_size,
            rngs,
        )
        self.learning_rate = projection(width, heads, rngs, per_memory=True)
        self.momentum = projection(width, heads, rngs, per_memory=True)
        self.write_strength = projection(width, heads, rngs, per_memory=True)
        self.decay = HeadDecay(width, heads, rngs, fastest=config.fastest_decay)
        self.read_out = ReadOut(
            values,
            width,
            rngs,
            depth=depth,
            norm=RMSNorm(self.value_size, config.norm_epsilon),
            gate=projection(width, values, rngs) if config.output_gate else None,
        )

    def init_memory(self, batch_size: int) -> MomentumMemory:
        shape = (batch_size, self.config.num_heads, self.head_size, self.value_size)
        zeros = jnp.zeros(shape, jnp.float32)
        return MomentumMemory(zeros, zeros)

    def inputs(
        self, x: Float[Array, "b t d"], state: AssociativeState, layout: Layout
    ) -> tuple[MemoryInputs, Tails]:
        (q, k, v), tails = self.streams(x, state.tails, layout)
        step, momentum, strength = (
            gate(x).astype(jnp.float32)
            for gate in (self.learning_rate, self.momentum, self.write_strength)
        )
        key, log_decay = l2_normalise(k), self.decay(x)
        erase = key
        if self.config.decayed_residual:
            erase = (jnp.exp(log_decay)[..., None] * key).astype(k.dtype)
        tokens = MomentumDeltaTokens(
            query=l2_normalise(q) * self.head_size**-0.5,
            key=(jax.nn.sigmoid(step)[..., None] * key).astype(k.dtype),
            value=v,
            erase=erase,
            write_strength=jax.nn.sigmoid(strength),
            log_momentum=jax.nn.log_sigmoid(momentum),
            log_decay=log_decay,
        )
        return MemoryInputs(tokens), tails

    def read(
        self, query: Float[Array, "b t h k"], memory: MomentumMemory
    ) -> Float[Array, "b t h v"]:
        return super().read(query, memory.memory)
