"""Gated Oja's rule: the delta rule with the roles of keys and values swapped."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .associative_memory import AssociativeState, MatrixMemory
from .channel_gates import ChannelDecay
from .interface import Layout
from .layer_checks import (
    check_chunk_size,
    check_convolution,
    check_positive,
    resolve_head_size,
)
from .layer_config import Family, RegisteredConfig
from .memory_inputs import MemoryInputs
from .ops.normalisation import l2_normalise
from .ops.oja_rule import OJA_RULE, OjaTokens
from .projection import RMSNorm, projection
from .read_out import ReadOut
from .streams import Tails, query_key_value


@dataclass(frozen=True, kw_only=True)
class OjaConfig(RegisteredConfig):
    """Gated Oja's rule, as a rule of fast weights (Irie et al. 2022, arXiv:2206.01649).

    Per head, with keys, queries and values of length 1, beta_t = sigmoid(w_b . x_t) and
    one decay for each channel of the value:

        alpha_t = exp(-exp(log_a) softplus(W_up W_down x_t + time_bias))
        S'_t = S_(t-1) diag(alpha_t)
        S_t = S'_t + beta_t (k_t - S'_t v_t) v_t^T
        o_t = S_t^T q_t / sqrt(head size)
        y_t = W_o (norm(o_t) * silu(W_g x_t))

    This is the delta rule for the transposed memory, with the value as its key: a write
    first removes what is stored with the same value.

    Differs from it in: time is discrete, as in the operation of flash-linear-attention,
    which has no published layer. Streams, decay and read-out are those of kda, with the
    decay on the value's channels and SiLU on the gate.
    """

    family: ClassVar[Family] = "delta rule"

    num_heads: int = 4
    head_size: int | None = None
    """Size of each head's queries and keys; None: width / num_heads."""
    value_ratio: int = 1
    """Ratio of value size to key size."""
    convolution_size: int = 4
    """Taps of the short convolutions on queries, keys and values; 0: none."""
    output_gate: bool = True
    """Multiply the read by silu(W_g x)."""
    gate_rank: int | None = None
    """Rank of the map to the decays; None: the value size."""
    fastest_decay: float = 16.0
    """Initial exp(log_a) is uniform between a 16th of this and this. With one or two
    heads a draw near 16 forgets within a few tokens; choose 1 then."""
    norm_epsilon: float = 1e-5
    """Epsilon of the read's norm: added to the mean square."""
    chunk_size: int | None = None
    """Tokens per chunk; affects speed and memory only. None: 16."""

    def __post_init__(self) -> None:
        check_convolution(self.convolution_size)
        check_chunk_size(self.chunk_size)
        for name in ("norm_epsilon", "value_ratio", "fastest_decay"):
            check_positive(name, getattr(self, name))
        if self.gate_rank is not None:
            check_positive("gate_rank", self.gate_rank)

    def build(
        self, width: int, rngs: nnx.Rngs, *, layer_index: int | Array, depth: int
    ) -> "Oja":
        del layer_index
        return Oja(self, width, rngs, depth)


class Oja(MatrixMemory):
    """See `OjaConfig`."""

    rule = OJA_RULE

    def __init__(self, config: OjaConfig, width: int, rngs: nnx.Rngs, depth: int):
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
        self.write_strength = projection(width, heads, rngs, per_memory=True)
        self.decay = ChannelDecay(
            width,
            config.gate_rank or self.value_size,
            heads,
            self.value_size,
            rngs,
            fastest=config.fastest_decay,
        )
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
        tokens = OjaTokens(
            query=l2_normalise(q) * self.head_size**-0.5,
            key=l2_normalise(k),
            value=l2_normalise(v),
            write_strength=jax.nn.sigmoid(self.write_strength(x).astype(jnp.float32)),
            log_decay=self.decay(x),
        )
        return MemoryInputs(tokens), tails
